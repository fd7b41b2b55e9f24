-- A sequence goes on in one transaction: a step is completed and its successor taken by the same call, of any number of
-- executions at once. claim_steps and complete_steps stand in for claim_step, complete_step and skip_step.
DROP FUNCTION claim_step(UUID, INTEGER, UUID, INTEGER);
DROP FUNCTION claim_again(UUID, INTEGER, UUID);
DROP FUNCTION complete_step(UUID, INTEGER, JSONB, JSONB);
DROP FUNCTION skip_step(UUID, INTEGER);

-- By status the planner used it to find one running step by its id, and read it whole: all that runs, per completion.
DROP INDEX idx_steps_running;
CREATE INDEX idx_steps_running ON workflow_steps (worker_id) WHERE worker_id IS NOT NULL;

-- What a claim hands over: the step, and in scope the variables and context keys it reads. The variable of a step that
-- did not complete is null. Reads one row per variable, however long the execution is.
CREATE OR REPLACE FUNCTION claim_of(p_step workflow_steps)
RETURNS TABLE (execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER) LANGUAGE sql STABLE AS $$
  SELECT e.id, p_step.step_index, p_step.attempt, e.definition_hash,
         CASE WHEN p_step.context_keys = '{}' THEN '{}' ELSE coalesce(
           (SELECT jsonb_object_agg(k, CASE WHEN k = 'input' THEN coalesce(e.input, '{}')
                                            ELSE coalesce(e.context -> 'variables' -> k, e.context -> k) END)
              FROM unnest(p_step.context_keys) k
             WHERE k = 'input' OR e.context -> 'variables' ? k OR e.context ? k), '{}') END
         || CASE WHEN p_step.variable_steps = '{}' THEN '{}' ELSE coalesce(
           (SELECT jsonb_object_agg(v.assign, CASE WHEN v.status = 'completed' THEN v.output END)
              FROM unnest(p_step.variable_steps) i, LATERAL (
                   SELECT w.assign, w.status, w.output FROM workflow_steps w
                    WHERE w.execution_id = p_step.execution_id AND w.step_index = i LIMIT 1) v), '{}') END,
         p_step.retry_count - p_step.lost_count
    FROM workflow_executions e WHERE e.id = p_step.execution_id OFFSET 0  -- looked up, whatever it is joined with
$$;

-- pending -> running, of any number of steps. Prevents: two workers on one attempt, a step before its time, a step of an
-- execution at rest. Answers the steps that the worker is to run; they are taken in one order, so that two calls never wait
-- for each other.
CREATE FUNCTION claim_steps(p_steps UUID[], p_attempts INTEGER[], p_worker UUID, p_timeout_ms INTEGER)
RETURNS TABLE (step_id UUID, execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
                 SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH wanted AS MATERIALIZED (
    SELECT w.id, w.attempt FROM unnest(p_steps, p_attempts) w(id, attempt)
     WHERE abs(w.attempt) = w.attempt  -- to the planner: one
     ORDER BY w.id
  ), taken AS (
    UPDATE workflow_steps s
       SET status = 'running', attempt = s.attempt + 1, worker_id = p_worker, claimed_at = now(),
           started_at = coalesce(s.started_at, now()), dispatch_after = NULL, dispatch_count = 0, updated_at = now(),
           deadline_at = now() + (coalesce(s.timeout_ms, p_timeout_ms) + 30000) * interval '1 millisecond'
      FROM wanted w
     WHERE s.id = w.id AND s.attempt = w.attempt AND s.status = 'pending' AND s.needs_left = 0 AND s.next_run_at <= now()
       AND (SELECT e.status FROM workflow_executions e WHERE e.id = s.execution_id) = 'running'
    RETURNING s)
  SELECT (t.s).id, c.* FROM taken t, claim_of(t.s) c;
END $$;

-- running -> running: the claim's answer once more, for the worker whose connection broke before it came. Prevents: a
-- step in the hands of a worker that does not know it. To be asked by the one that claimed, and by nobody else there.
CREATE FUNCTION claim_again(p_step UUID, p_attempt INTEGER, p_worker UUID)
RETURNS TABLE (step_id UUID, execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER) LANGUAGE sql STABLE AS $$
  SELECT s.id, c.* FROM workflow_steps s, claim_of(s) c
   WHERE s.id = p_step AND s.attempt = p_attempt + 1 AND s.status = 'running' AND s.worker_id = p_worker
$$;

-- running -> completed | skipped, of any number of steps, and pending -> running of each one's successor where the worker
-- goes on with it. Prevents: a result recorded by an attempt that no longer holds the step, and a step between two workers.
-- p_records: [{step, attempt, output, input, hand_over}]; without output the condition was false. hand_over: if the step has
-- one successor, which waits for nothing else, that is claimed for p_worker and answered in next_*. p_again: an earlier call's
-- answer was lost; what that one did is answered. Answers a row for each step that is recorded. At most one record of an
-- execution, and what executions share is taken in the order of their ids, so that two calls never wait for each other.
CREATE FUNCTION complete_steps(p_records JSONB, p_worker UUID, p_timeout_ms INTEGER, p_again BOOLEAN)
RETURNS TABLE (step_id UUID, execution_id UUID, execution_status TEXT, ready_steps UUID[], ready_attempts INTEGER[],
               next_step UUID, next_index INTEGER, next_attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
                 SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
  ended UUID[];
  taken UUID[];
  step  workflow_steps;
BEGIN
  WITH entries AS MATERIALIZED (
    SELECT (r ->> 'step')::uuid AS step, (r ->> 'attempt')::integer AS attempt, r -> 'output' AS output,
           r -> 'input' AS input, (r -> 'hand_over')::boolean AS hand_over
      FROM jsonb_array_elements(p_records) r WHERE jsonb_typeof(r) = 'object'  -- to the planner: one
  ), recorded AS (
    UPDATE workflow_steps s
       SET status = CASE WHEN e.output IS NULL THEN 'skipped' ELSE 'completed' END,
           output = e.output, input = coalesce(e.input, s.input), error = NULL, error_kind = NULL, worker_id = NULL,
           deadline_at = NULL, completed_at = now(), updated_at = now(),
           duration_ms = CASE WHEN e.output IS NULL THEN 0
                              ELSE round(extract(epoch FROM now() - s.started_at) * 1000) END
      FROM entries e WHERE s.id = e.step AND s.attempt = e.attempt AND s.status = 'running'
    RETURNING s.id, s.execution_id, CASE WHEN e.hand_over AND cardinality(s.successors) = 1 THEN s.successors[1] END AS wanted
  ), claimed AS (
    UPDATE workflow_steps n
       SET status = 'running', attempt = n.attempt + 1, worker_id = p_worker, needs_left = 0, claimed_at = now(),
           started_at = coalesce(n.started_at, now()), next_run_at = now(), updated_at = now(),
           deadline_at = now() + (coalesce(n.timeout_ms, p_timeout_ms) + 30000) * interval '1 millisecond'
      FROM recorded r
     WHERE r.wanted IS NOT NULL AND n.execution_id = r.execution_id AND n.step_index = r.wanted AND n.status = 'pending'
       AND n.needs_left = 1 AND (SELECT x.status FROM workflow_executions x WHERE x.id = r.execution_id) = 'running'
    RETURNING r.id AS before, n.id
  )
  SELECT array_agg(r.id), array_agg(c.id) INTO ended, taken FROM recorded r LEFT JOIN claimed c ON c.before = r.id;

  RETURN QUERY
  SELECT d.ended, c.execution_id, 'running', NULL::uuid[], NULL::integer[], d.taken, c.step_index, c.attempt, c.definition_hash,
         c.scope, c.retries_so_far
    FROM unnest(ended, taken) d(ended, taken), LATERAL (
         SELECT w AS step FROM workflow_steps w WHERE w.id = d.taken OFFSET 0) n, LATERAL claim_of(n.step) c;

  FOR step IN SELECT s.* FROM unnest(ended, taken) d(ended, taken), LATERAL (
                     SELECT w.* FROM workflow_steps w WHERE w.id = d.ended OFFSET 0) s
               WHERE d.taken IS NULL ORDER BY s.execution_id LOOP
    SELECT a.execution_status, a.ready_steps, a.ready_attempts INTO execution_status, ready_steps, ready_attempts
      FROM advance_execution(step.execution_id, step.successors) a;
    step_id := step.id;
    execution_id := step.execution_id;
    RETURN NEXT;
  END LOOP;

  IF p_again THEN
    RETURN QUERY
    SELECT s.id, s.execution_id, x.status::text, f.steps, f.attempts, n.id, c.step_index, c.attempt, c.definition_hash,
           c.scope, c.retries_so_far
      FROM jsonb_array_elements(p_records) r
      JOIN workflow_steps s ON s.id = (r ->> 'step')::uuid AND jsonb_typeof(r) = 'object'
      JOIN workflow_executions x ON x.id = s.execution_id
      LEFT JOIN workflow_steps n ON n.execution_id = s.execution_id AND n.step_index = s.successors[1]
                                AND cardinality(s.successors) = 1 AND (r -> 'hand_over')::boolean
                                AND n.status = 'running' AND n.worker_id = p_worker
      LEFT JOIN LATERAL claim_of(n) c ON n.id IS NOT NULL
      LEFT JOIN LATERAL (SELECT array_agg(w.id) AS steps, array_agg(w.attempt) AS attempts FROM workflow_steps w
                          WHERE w.execution_id = s.execution_id AND w.step_index = ANY (s.successors)
                            AND w.dispatch_after IS NOT NULL) f ON true
     WHERE s.attempt = (r ->> 'attempt')::integer AND s.id <> ALL (coalesce(ended, '{}'))
       AND s.status = CASE WHEN r ? 'output' THEN 'completed' ELSE 'skipped' END;
  END IF;
END $$;

-- The same of a step, unique by its execution's id and its index: a random number costs a system call, a hash does not.
CREATE FUNCTION step_uuid(p_milliseconds TEXT, p_execution UUID, p_index INTEGER) RETURNS UUID LANGUAGE sql IMMUTABLE AS $$
  SELECT overlay(overlay(overlay(md5(p_execution::text || p_index::text) PLACING p_milliseconds FROM 1 FOR 12)
                         PLACING '7' FROM 13 FOR 1) PLACING '8' FROM 17 FOR 1)::uuid
$$;

-- - -> running, all steps pending. Prevents: an execution without its steps, and a second one for an idempotency key.
-- p_requests: [{id, input, context, title, triggered_by, github_run_id, idempotency_key, request_hash, labels}], any number.
-- Answers one row per request in order; ready_steps are the roots, at attempt 0.
CREATE OR REPLACE FUNCTION submit_executions(p_hash TEXT, p_requests JSONB, p_workflow UUID DEFAULT NULL)
RETURNS TABLE (execution_id UUID, created BOOLEAN, ready_steps UUID[]) LANGUAGE plpgsql AS $$
DECLARE
  root_of    UUID[];
  root_steps UUID[];
BEGIN
  WITH definition AS MATERIALIZED (
    SELECT d.plan, coalesce((d.definition -> 'config' ->> 'continueOnError')::boolean, false) AS continue_on_error,
           (d.definition -> 'config' ->> 'timeoutMs')::integer * interval '1 millisecond' AS timeout,
           lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') AS milliseconds
      FROM workflow_definitions d WHERE d.hash = p_hash
  ), planned AS MATERIALIZED (
    SELECT d.milliseconds, p.* FROM definition d, jsonb_to_recordset(d.plan) p(step_name TEXT, step_index INTEGER, tool TEXT,
           assign TEXT, successors INTEGER[], variable_steps INTEGER[], context_keys TEXT[], max_retries INTEGER,
           timeout_ms INTEGER, idempotent BOOLEAN, needs INTEGER)
  ), executions AS (
    INSERT INTO workflow_executions AS e (id, workflow_id, status, input, context, title, triggered_by, github_run_id,
                                          idempotency_key, request_hash, labels, definition_hash, continue_on_error,
                                          leaves_left, deadline_at)
    SELECT q.id, p_workflow, 'running', q.input, q.context, q.title, q.triggered_by, q.github_run_id,
           q.idempotency_key, q.request_hash, coalesce(q.labels, '{}'), p_hash, d.continue_on_error,
           (SELECT count(*) FROM planned WHERE successors = '{}'), now() + d.timeout
      FROM definition d, jsonb_to_recordset(p_requests) q(id UUID, input JSONB, context JSONB, title TEXT,
           triggered_by TEXT, github_run_id TEXT, idempotency_key TEXT, request_hash TEXT, labels JSONB)
    ON CONFLICT DO NOTHING
    RETURNING e.id
  ), steps AS (
    INSERT INTO workflow_steps AS s (id, execution_id, step_name, step_index, status, tool, assign, successors,
                                     variable_steps, context_keys, max_retries, timeout_ms, idempotent, needs_left,
                                     next_run_at, dispatch_after)
    SELECT step_uuid(p.milliseconds, e.id, p.step_index), e.id, p.step_name, p.step_index, 'pending', p.tool, p.assign, p.successors,
           p.variable_steps, p.context_keys, p.max_retries, p.timeout_ms, p.idempotent, p.needs,
           CASE WHEN p.needs = 0 THEN now() END, CASE WHEN p.needs = 0 THEN now() + interval '10 seconds' END
      FROM executions e, planned p
    RETURNING s.id, s.execution_id, s.needs_left
  )
  SELECT array_agg(s.execution_id), array_agg(s.id) INTO root_of, root_steps FROM steps s WHERE s.needs_left = 0;

  -- A statement of its own: its snapshot holds the executions that an earlier request, here or elsewhere, has made.
  RETURN QUERY
  SELECT e.id, roots.execution IS NOT NULL, coalesce(roots.steps, '{}')
    FROM jsonb_array_elements(p_requests) WITH ORDINALITY r(request, position)
    LEFT JOIN LATERAL (
      SELECT w.id FROM workflow_executions w WHERE w.id = (r.request ->> 'id')::uuid
       UNION ALL
      SELECT w.id FROM workflow_executions w WHERE w.idempotency_key = r.request ->> 'idempotency_key'
       LIMIT 1) e ON true
    LEFT JOIN (SELECT x.execution, array_agg(x.step) AS steps FROM unnest(root_of, root_steps) x(execution, step)
                GROUP BY 1) roots ON roots.execution = e.id AND roots.execution = (r.request ->> 'id')::uuid
   ORDER BY r.position;
END $$;
