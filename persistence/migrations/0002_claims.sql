-- Claims whose answer was lost; steps for workers that hear no messages, and a push of all that waits when Redis comes back;
-- a look at a server's tools whose looker died is taken up again.

-- What a claim hands over: the step, and in scope the variables and context keys it reads. The variable of a step that
-- did not complete is null.
CREATE FUNCTION claim_of(p_step workflow_steps)
RETURNS TABLE (execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER) LANGUAGE sql STABLE AS $$
  SELECT e.id, p_step.step_index, p_step.attempt, e.definition_hash,
         coalesce((SELECT jsonb_object_agg(k, CASE WHEN k = 'input' THEN coalesce(e.input, '{}')
                                                   ELSE coalesce(e.context -> 'variables' -> k, e.context -> k) END)
                     FROM unnest(p_step.context_keys) k
                    WHERE k = 'input' OR e.context -> 'variables' ? k OR e.context ? k), '{}')
         || coalesce((SELECT jsonb_object_agg(v.assign, CASE WHEN v.status = 'completed' THEN v.output END)
                        FROM workflow_steps v
                       WHERE v.execution_id = p_step.execution_id AND v.step_index = ANY (p_step.variable_steps)), '{}'),
         p_step.retry_count - p_step.lost_count
    FROM workflow_executions e WHERE e.id = p_step.execution_id
$$;

-- pending -> running. Prevents: two workers on one attempt, a step before its time, a step of an execution at rest.
-- Answers nothing when the step is not to be run.
CREATE OR REPLACE FUNCTION claim_step(p_step UUID, p_attempt INTEGER, p_worker UUID, p_timeout_ms INTEGER)
RETURNS TABLE (execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER) LANGUAGE plpgsql AS $$
DECLARE
  step workflow_steps;
BEGIN
  UPDATE workflow_steps s
     SET status = 'running', attempt = s.attempt + 1, worker_id = p_worker, claimed_at = now(),
         started_at = coalesce(s.started_at, now()), dispatch_after = NULL, dispatch_count = 0, updated_at = now(),
         deadline_at = now() + (coalesce(s.timeout_ms, p_timeout_ms) + 30000) * interval '1 millisecond'
   WHERE s.id = p_step AND s.attempt = p_attempt AND s.status = 'pending' AND s.needs_left = 0 AND s.next_run_at <= now()
     AND EXISTS (SELECT FROM workflow_executions e WHERE e.id = s.execution_id AND e.status = 'running')
  RETURNING s.* INTO step;
  IF FOUND THEN RETURN QUERY SELECT * FROM claim_of(step); END IF;
END $$;

-- running -> running: the claim's answer once more, for the worker whose connection broke before it came. Prevents: a
-- step in the hands of a worker that does not know it. To be asked by the one that claimed, and by nobody else there.
CREATE FUNCTION claim_again(p_step UUID, p_attempt INTEGER, p_worker UUID)
RETURNS TABLE (execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER) LANGUAGE sql STABLE AS $$
  SELECT c.* FROM workflow_steps s, claim_of(s) c
   WHERE s.id = p_step AND s.attempt = p_attempt + 1 AND s.status = 'running' AND s.worker_id = p_worker
$$;

-- Steps for a worker that hears no messages: what is due, and what nobody has pushed yet. Charges their dispatch_after as
-- dispatch_steps does, so that no two workers are handed the same step. Any number may call it at once.
CREATE FUNCTION take_steps(p_limit INTEGER) RETURNS TABLE (step_id UUID, attempt INTEGER) LANGUAGE sql AS $$
  WITH due AS (
    SELECT s.id FROM workflow_steps s
     WHERE s.dispatch_after <= now() OR (s.dispatch_after IS NOT NULL AND s.dispatch_count = 0 AND s.next_run_at <= now())
     ORDER BY s.dispatch_after LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED)
  UPDATE workflow_steps s
     SET dispatch_count = s.dispatch_count + 1,
         dispatch_after = now() + least(10 * 3 ^ least(s.dispatch_count, 4), 300) * interval '1 second'
    FROM due WHERE s.id = due.id
  RETURNING s.id, s.attempt
$$;

-- Makes every waiting step due: Redis came back, perhaps without its messages. A second push of one it kept is refused.
-- Answers how many; to be called until that is less than p_limit.
CREATE FUNCTION redispatch_steps(p_limit INTEGER) RETURNS BIGINT LANGUAGE sql AS $$
  WITH waiting AS (
    SELECT s.id FROM workflow_steps s WHERE s.dispatch_after > now() AND s.next_run_at <= now()
     LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
  ), due AS (
    UPDATE workflow_steps s SET dispatch_after = now(), dispatch_count = 0 FROM waiting WHERE s.id = waiting.id RETURNING 1)
  SELECT count(*) FROM due
$$;

-- Takes the refresh of a server's tools for this caller, once per p_ttl_seconds. Prevents: a fleet that all asks at once.
CREATE OR REPLACE FUNCTION claim_refresh(p_server TEXT, p_repeat_unannotated BOOLEAN, p_ttl_seconds DOUBLE PRECISION)
RETURNS BOOLEAN LANGUAGE sql AS $$
  INSERT INTO mcp_servers AS s (name, repeat_unannotated) VALUES (p_server, p_repeat_unannotated)
  ON CONFLICT (name) DO UPDATE SET looked_at = now(), repeat_unannotated = p_repeat_unannotated
   WHERE s.looked_at <= now() - CASE WHEN s.fetched_at IS NULL AND s.error IS NULL  -- whoever looked has not come back
                                     THEN least(p_ttl_seconds, 10) ELSE p_ttl_seconds END * interval '1 second';
  SELECT s.looked_at = now() FROM mcp_servers s WHERE s.name = p_server
$$;
