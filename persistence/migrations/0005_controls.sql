-- What an operator does with executions: pause, resume, cancel, retry, rerun, fork, skip, set an output, hold a tool.

ALTER TABLE workflow_executions
  ADD COLUMN paused_at TIMESTAMPTZ,
  ADD COLUMN forked_from UUID;
CREATE INDEX idx_executions_forked_from ON workflow_executions (forked_from) WHERE forked_from IS NOT NULL;

ALTER TABLE workflow_steps
  ADD COLUMN override JSONB CHECK (jsonb_typeof(override) = 'object'),
  ADD COLUMN retries_before INTEGER NOT NULL DEFAULT 0,
  ADD COLUMN lost_before INTEGER NOT NULL DEFAULT 0,
  ADD COLUMN reused_from UUID;

ALTER TABLE workflow_events ADD COLUMN detail JSONB;

CREATE TABLE workflow_step_results (
  id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  execution_id  UUID NOT NULL REFERENCES workflow_executions(id) ON DELETE CASCADE,
  step_id       UUID NOT NULL,
  step_index    INTEGER NOT NULL,
  status        VARCHAR(50) NOT NULL,
  attempt       INTEGER NOT NULL,
  input         JSONB,
  output        JSONB,
  error         TEXT,
  error_kind    TEXT,
  started_at    TIMESTAMPTZ,
  completed_at  TIMESTAMPTZ,
  duration_ms   INTEGER,
  retry_count   INTEGER,
  control       BIGINT NOT NULL,
  replaced_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_step_results_execution_id ON workflow_step_results (execution_id, id);

CREATE TABLE holds (
  kind        TEXT NOT NULL CHECK (kind IN ('workflow', 'server', 'tool')),
  name        TEXT NOT NULL,
  actor       TEXT NOT NULL,
  reason      TEXT,
  created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, name)
);

DROP FUNCTION claim_steps, claim_again, complete_steps, claim_of;

CREATE FUNCTION is_held(p_tool TEXT, p_execution UUID) RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM holds h WHERE h.kind = 'tool' AND h.name = p_tool
                    OR h.kind = 'server' AND h.name = split_part(p_tool, '.', 1)
                    OR h.kind = 'workflow' AND h.name = (
                       SELECT d.definition ->> 'name' FROM workflow_executions e
                         JOIN workflow_definitions d ON d.hash = e.definition_hash WHERE e.id = p_execution))
$$;

CREATE FUNCTION claim_of(p_step workflow_steps)
RETURNS TABLE (execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB) LANGUAGE sql STABLE AS $$
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
         p_step.retry_count - p_step.lost_count - p_step.retries_before, p_step.override
    FROM workflow_executions e WHERE e.id = p_step.execution_id OFFSET 0  -- looked up, whatever it is joined with
$$;

CREATE FUNCTION claim_steps(p_steps UUID[], p_attempts INTEGER[], p_worker UUID, p_timeout_ms INTEGER)
RETURNS TABLE (step_id UUID, execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB)
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
       AND ((SELECT count(*) FROM holds) = 0 OR NOT is_held(s.tool, s.execution_id))
    RETURNING s)
  SELECT (t.s).id, c.* FROM taken t, claim_of(t.s) c;
END $$;

CREATE FUNCTION claim_again(p_step UUID, p_attempt INTEGER, p_worker UUID)
RETURNS TABLE (step_id UUID, execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB) LANGUAGE sql STABLE AS $$
  SELECT s.id, c.* FROM workflow_steps s, claim_of(s) c
   WHERE s.id = p_step AND s.attempt = p_attempt + 1 AND s.status = 'running' AND s.worker_id = p_worker
$$;

CREATE FUNCTION settled_status(p_execution UUID) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  found TEXT;
BEGIN
  SELECT e.status INTO found FROM workflow_executions e WHERE e.id = p_execution;
  IF found <> 'running' THEN
    SELECT e.status INTO found FROM workflow_executions e WHERE e.id = p_execution FOR SHARE;
  END IF;
  RETURN found;
END $$;

CREATE OR REPLACE FUNCTION advance_execution(p_execution UUID, p_successors INTEGER[],
                                  OUT execution_status TEXT, OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
DECLARE
  leaves INTEGER;
BEGIN
  IF cardinality(p_successors) = 0 THEN
    -- Locked first and finished by a later statement: its snapshot then holds the outputs of leaves that ended meanwhile.
    SELECT e.leaves_left - 1, e.status INTO leaves, execution_status
      FROM workflow_executions e WHERE e.id = p_execution FOR NO KEY UPDATE;
    IF leaves = 0 AND execution_status = 'running' THEN
      PERFORM finish_execution(p_execution, 'completed', NULL);
      execution_status := 'completed';
    ELSE
      UPDATE workflow_executions e SET leaves_left = leaves, updated_at = now() WHERE e.id = p_execution;
    END IF;
    RETURN;
  END IF;

  execution_status := settled_status(p_execution);
  WITH counted AS (
    UPDATE workflow_steps s
       SET needs_left = s.needs_left - 1, updated_at = now(),
           next_run_at = CASE WHEN s.needs_left = 1 THEN now() END,
           dispatch_after = CASE WHEN s.needs_left = 1 AND execution_status = 'running' THEN now() + interval '10 seconds' END
     WHERE s.execution_id = p_execution AND s.step_index = ANY (p_successors)
    RETURNING s.id, s.attempt, s.dispatch_after)
  SELECT array_agg(c.id), array_agg(c.attempt) INTO ready_steps, ready_attempts
    FROM counted c WHERE c.dispatch_after IS NOT NULL;
END $$;

CREATE FUNCTION complete_steps(p_records JSONB, p_worker UUID, p_timeout_ms INTEGER, p_again BOOLEAN)
RETURNS TABLE (step_id UUID, execution_id UUID, execution_status TEXT, ready_steps UUID[], ready_attempts INTEGER[],
               next_step UUID, next_index INTEGER, next_attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB)
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
       AND ((SELECT count(*) FROM holds) = 0 OR NOT is_held(n.tool, n.execution_id))
    RETURNING r.id AS before, n.id
  )
  SELECT array_agg(r.id), array_agg(c.id) INTO ended, taken FROM recorded r LEFT JOIN claimed c ON c.before = r.id;

  RETURN QUERY
  SELECT d.ended, c.execution_id, 'running', NULL::uuid[], NULL::integer[], d.taken, c.step_index, c.attempt, c.definition_hash,
         c.scope, c.retries_so_far, c.override
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
           c.scope, c.retries_so_far, c.override
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

CREATE OR REPLACE FUNCTION charge_step(p_step UUID, p_attempt INTEGER, p_kind TEXT, p_error TEXT, p_retryable BOOLEAN,
                            p_delay_ms INTEGER, p_input JSONB, p_lost BOOLEAN, p_max_lost INTEGER,
                            OUT recorded BOOLEAN, OUT step_status TEXT, OUT execution_id UUID,
                            OUT execution_status TEXT, OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
DECLARE
  step   workflow_steps;
  safe   BOOLEAN;
  again  BOOLEAN;
  due_at TIMESTAMPTZ := now() + p_delay_ms * interval '1 millisecond';
BEGIN
  SELECT s.* INTO step FROM workflow_steps s
   WHERE s.id = p_step AND s.attempt = p_attempt AND s.status = 'running' FOR NO KEY UPDATE;
  recorded := FOUND;
  IF NOT recorded THEN RETURN; END IF;

  safe := (NOT p_lost AND p_kind <> 'engine_error') OR coalesce(step.idempotent, tool_repeatable(step.tool), true);
  IF NOT safe THEN
    p_kind := 'outcome_unknown';
    p_error := p_error || '; the tool may have run, and it is not known to be safe to run twice';
  END IF;
  again := p_retryable AND safe AND CASE WHEN p_lost THEN step.lost_count - step.lost_before + 1 < p_max_lost
                                ELSE step.retry_count - step.lost_count - step.retries_before < step.max_retries END;
  step_status := CASE WHEN again THEN 'pending' ELSE 'failed' END;
  execution_id := step.execution_id;
  INSERT INTO workflow_events (execution_id, step_id, attempt, event, kind, message, started_at)
  VALUES (step.execution_id, step.id, step.attempt, CASE WHEN p_lost THEN 'attempt_lost' ELSE 'attempt_failed' END,
          p_kind, p_error, step.claimed_at);
  execution_status := settled_status(step.execution_id);
  UPDATE workflow_steps s
     SET status = step_status, error = p_error, error_kind = p_kind, input = coalesce(p_input, s.input),
         worker_id = NULL, deadline_at = NULL, updated_at = now(),
         retry_count = s.retry_count + again::integer, lost_count = s.lost_count + (again AND p_lost)::integer,
         next_run_at = CASE WHEN again THEN due_at END,
         dispatch_after = CASE WHEN again AND execution_status = 'running' THEN due_at END,
         completed_at = CASE WHEN NOT again THEN now() END,
         duration_ms = CASE WHEN NOT again THEN round(extract(epoch FROM now() - s.started_at) * 1000) END
   WHERE s.id = step.id;
  IF again THEN RETURN; END IF;

  IF (SELECT e.continue_on_error FROM workflow_executions e WHERE e.id = step.execution_id) THEN
    SELECT a.* INTO execution_status, ready_steps, ready_attempts FROM advance_execution(step.execution_id, step.successors) a;
  ELSIF finish_execution(step.execution_id, 'failed', format('step %s: %s', step.step_name, p_error)) THEN
    execution_status := 'failed';
  END IF;
END $$;

CREATE OR REPLACE FUNCTION release_step(p_step UUID, p_attempt INTEGER, p_reason TEXT,
                             OUT recorded BOOLEAN, OUT step_status TEXT, OUT execution_id UUID,
                             OUT execution_status TEXT, OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
DECLARE
  step workflow_steps;
BEGIN
  SELECT settled_status(s.execution_id) INTO execution_status FROM workflow_steps s WHERE s.id = p_step;
  UPDATE workflow_steps s
     SET status = 'pending', released_count = s.released_count + 1, worker_id = NULL, deadline_at = NULL,
         next_run_at = now(), updated_at = now(), dispatch_after = CASE WHEN execution_status = 'running' THEN now() END
   WHERE s.id = p_step AND s.attempt = p_attempt AND s.status = 'running'
  RETURNING s.* INTO step;
  recorded := FOUND;
  IF NOT recorded THEN RETURN; END IF;
  step_status := 'pending';
  execution_id := step.execution_id;
  INSERT INTO workflow_events (execution_id, step_id, attempt, event, message, started_at)
  VALUES (step.execution_id, step.id, step.attempt, 'attempt_released', p_reason, step.claimed_at);
  ready_steps := ARRAY[step.id];
  ready_attempts := ARRAY[step.attempt];
END $$;

CREATE FUNCTION note_control(p_execution UUID, p_action TEXT, p_actor TEXT, p_reason TEXT, p_detail JSONB)
RETURNS BIGINT LANGUAGE sql AS $$
  INSERT INTO workflow_events (execution_id, event, kind, message, actor, detail)
  VALUES (p_execution, 'control', p_action, p_reason, p_actor, p_detail) RETURNING id
$$;

CREATE FUNCTION wake_execution(p_execution UUID, OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
BEGIN
  WITH woken AS (
    UPDATE workflow_steps s
       SET next_run_at = coalesce(s.next_run_at, now()), dispatch_count = 0,
           dispatch_after = CASE WHEN s.next_run_at > now() THEN s.next_run_at ELSE now() + interval '10 seconds' END
     WHERE s.execution_id = p_execution AND s.status = 'pending' AND s.needs_left = 0
    RETURNING s.id, s.attempt, s.next_run_at)
  SELECT array_agg(w.id), array_agg(w.attempt) INTO ready_steps, ready_attempts FROM woken w WHERE w.next_run_at <= now();
END $$;

CREATE FUNCTION recount_execution(p_execution UUID) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  goes_on BOOLEAN := (SELECT e.continue_on_error FROM workflow_executions e WHERE e.id = p_execution);
BEGIN
  WITH unfinished AS (
    SELECT s.successors FROM workflow_steps s
     WHERE s.execution_id = p_execution AND (s.status IN ('pending', 'running') OR s.status = 'failed' AND NOT goes_on)
  ), waits AS (
    SELECT u.step_index, count(*) AS needs FROM unfinished f, unnest(f.successors) u(step_index) GROUP BY 1
  ), leaves AS (
    UPDATE workflow_executions e
       SET leaves_left = (SELECT count(*) FROM unfinished f WHERE f.successors = '{}') WHERE e.id = p_execution)
  UPDATE workflow_steps s
     SET needs_left = coalesce(c.needs, 0), dispatch_after = NULL, next_run_at = CASE WHEN c.needs IS NULL THEN s.next_run_at END
    FROM workflow_steps w LEFT JOIN waits c ON c.step_index = w.step_index
   WHERE w.execution_id = p_execution AND w.status = 'pending' AND s.id = w.id AND s.needs_left <> coalesce(c.needs, 0);
END $$;

CREATE FUNCTION pause_execution(p_execution UUID, p_actor TEXT, p_reason TEXT, OUT done BOOLEAN, OUT execution_status TEXT)
LANGUAGE plpgsql AS $$
BEGIN
  SELECT e.status INTO execution_status FROM workflow_executions e WHERE e.id = p_execution FOR NO KEY UPDATE;
  done := coalesce(execution_status = 'running', false);
  IF NOT done THEN RETURN; END IF;
  UPDATE workflow_executions e SET status = 'paused', paused_at = now(), updated_at = now() WHERE e.id = p_execution;
  UPDATE workflow_steps s SET dispatch_after = NULL
   WHERE s.execution_id = p_execution AND s.status = 'pending' AND s.dispatch_after IS NOT NULL;
  PERFORM note_control(p_execution, 'pause', p_actor, p_reason, '{"from": "running"}');
  execution_status := 'paused';
END $$;

CREATE FUNCTION resume_execution(p_execution UUID, p_actor TEXT, p_reason TEXT, OUT done BOOLEAN, OUT execution_status TEXT,
                                 OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
DECLARE
  leaves INTEGER;
BEGIN
  SELECT e.status, e.leaves_left INTO execution_status, leaves
    FROM workflow_executions e WHERE e.id = p_execution FOR NO KEY UPDATE;
  done := coalesce(execution_status = 'paused', false);
  IF NOT done THEN RETURN; END IF;
  UPDATE workflow_executions e
     SET status = 'running', paused_at = NULL, updated_at = now(), deadline_at = e.deadline_at + (now() - e.paused_at)
   WHERE e.id = p_execution;
  PERFORM note_control(p_execution, 'resume', p_actor, p_reason, '{"from": "paused"}');
  execution_status := 'running';
  IF leaves = 0 THEN
    PERFORM finish_execution(p_execution, 'completed', NULL);
    execution_status := 'completed';
    RETURN;
  END IF;
  SELECT w.ready_steps, w.ready_attempts INTO ready_steps, ready_attempts FROM wake_execution(p_execution) w;
END $$;

CREATE FUNCTION cancel_execution(p_execution UUID, p_actor TEXT, p_reason TEXT, OUT done BOOLEAN, OUT execution_status TEXT)
LANGUAGE plpgsql AS $$
BEGIN
  SELECT e.status INTO execution_status FROM workflow_executions e WHERE e.id = p_execution FOR NO KEY UPDATE;
  done := coalesce(execution_status IN ('running', 'paused'), false);
  IF NOT done THEN RETURN; END IF;
  PERFORM note_control(p_execution, 'cancel', p_actor, p_reason, jsonb_build_object('from', execution_status));
  PERFORM finish_execution(p_execution, 'cancelled', coalesce(p_reason, 'cancelled by ' || p_actor));
  execution_status := 'cancelled';
END $$;

CREATE FUNCTION rerun_steps(p_execution UUID, p_action TEXT, p_steps INTEGER[], p_overrides JSONB, p_expected TEXT,
                            p_actor TEXT, p_reason TEXT, OUT done BOOLEAN, OUT execution_status TEXT, OUT ready_steps UUID[],
                            OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
DECLARE
  before  workflow_executions;
  control BIGINT;
  gone    TEXT[];
BEGIN
  SELECT e.* INTO before FROM workflow_executions e WHERE e.id = p_execution FOR NO KEY UPDATE;
  execution_status := before.status;
  done := coalesce(before.status = p_expected, false);
  IF NOT done THEN RETURN; END IF;
  PERFORM FROM workflow_steps s WHERE s.execution_id = p_execution AND s.step_index = ANY (p_steps)
    ORDER BY s.step_index FOR NO KEY UPDATE;
  done := NOT EXISTS (SELECT FROM workflow_steps s WHERE s.execution_id = p_execution AND s.step_index = ANY (p_steps)
                         AND (s.status = 'running' OR before.status = 'running' AND s.status <> 'pending'));
  IF NOT done THEN RETURN; END IF;

  control := note_control(p_execution, p_action, p_actor, p_reason, jsonb_strip_nulls(jsonb_build_object(
    'from', before.status, 'error', before.error, 'completed_at', before.completed_at, 'steps', to_jsonb(p_steps),
    'overrides', nullif(p_overrides, '{}'))));
  INSERT INTO workflow_step_results (execution_id, step_id, step_index, status, attempt, input, output, error, error_kind,
                                     started_at, completed_at, duration_ms, retry_count, control)
  SELECT s.execution_id, s.id, s.step_index, s.status, s.attempt, s.input, s.output, s.error, s.error_kind, s.started_at,
         s.completed_at, s.duration_ms, s.retry_count, control
    FROM workflow_steps s WHERE s.execution_id = p_execution AND s.step_index = ANY (p_steps) AND s.status <> 'pending'
   ORDER BY s.step_index;
  gone := ARRAY(SELECT s.assign FROM workflow_steps s WHERE s.execution_id = p_execution AND s.step_index = ANY (p_steps)
                   AND s.status = 'completed' AND s.assign IS NOT NULL);
  UPDATE workflow_steps s
     SET status = 'pending', output = NULL, error = NULL, error_kind = NULL, started_at = NULL, completed_at = NULL,
         duration_ms = NULL, reused_from = NULL, override = NULL, next_run_at = NULL, updated_at = now(),
         retry_count = s.retry_count + (s.attempt > 0)::integer, lost_before = s.lost_count,
         retries_before = s.retry_count + (s.attempt > 0)::integer - s.lost_count
   WHERE s.execution_id = p_execution AND s.step_index = ANY (p_steps) AND s.status <> 'pending';
  UPDATE workflow_steps s SET override = o.value, updated_at = now()
    FROM jsonb_each(p_overrides) o WHERE s.execution_id = p_execution AND s.step_index = o.key::integer;
  IF before.status = 'running' THEN RETURN; END IF;

  PERFORM recount_execution(p_execution);
  UPDATE workflow_executions e
     SET status = CASE WHEN before.status = 'paused' THEN 'paused' ELSE 'running' END, completed_at = NULL, error = NULL,
         output = NULL, updated_at = now(),
         context = CASE WHEN e.context ? 'variables'
                        THEN jsonb_set(e.context, '{variables}', (e.context -> 'variables') - gone) ELSE e.context END,
         deadline_at = CASE WHEN before.status = 'paused' THEN e.deadline_at ELSE (
           SELECT now() + (d.definition -> 'config' ->> 'timeoutMs')::integer * interval '1 millisecond'
             FROM workflow_definitions d WHERE d.hash = e.definition_hash) END
   WHERE e.id = p_execution
  RETURNING e.status INTO execution_status;
  IF execution_status = 'paused' THEN RETURN; END IF;
  IF (SELECT e.leaves_left = 0 FROM workflow_executions e WHERE e.id = p_execution) THEN
    PERFORM finish_execution(p_execution, 'completed', NULL);
    execution_status := 'completed';
    RETURN;
  END IF;
  SELECT w.ready_steps, w.ready_attempts INTO ready_steps, ready_attempts FROM wake_execution(p_execution) w;
END $$;

CREATE FUNCTION fork_execution(p_source UUID, p_action TEXT, p_hash TEXT, p_workflow UUID, p_request JSONB, p_reused JSONB,
                               p_actor TEXT, p_reason TEXT, OUT done BOOLEAN, OUT execution_status TEXT, OUT execution_id UUID,
                               OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
BEGIN
  SELECT s.execution_id, s.created INTO execution_id, done
    FROM submit_executions(p_hash, jsonb_build_array(p_request), p_workflow) s;
  execution_status := 'running';
  IF NOT done THEN RETURN; END IF;
  PERFORM FROM workflow_executions e WHERE e.id = fork_execution.execution_id FOR NO KEY UPDATE;
  UPDATE workflow_executions e SET forked_from = p_source WHERE e.id = fork_execution.execution_id;
  UPDATE workflow_steps n
     SET status = o.status, output = coalesce(r -> 'output', o.output), input = o.input, started_at = o.started_at,
         completed_at = o.completed_at, duration_ms = o.duration_ms, reused_from = o.id, next_run_at = NULL, dispatch_after = NULL
    FROM jsonb_array_elements(p_reused) r JOIN workflow_steps o ON o.id = (r ->> 'source')::uuid AND o.execution_id = p_source
   WHERE n.execution_id = fork_execution.execution_id AND n.step_index = (r ->> 'index')::integer
     AND o.status IN ('completed', 'skipped');
  PERFORM note_control(p_source, p_action, p_actor, p_reason, jsonb_build_object('to', fork_execution.execution_id));
  PERFORM note_control(fork_execution.execution_id, p_action, p_actor, p_reason, jsonb_build_object('of', p_source));
  PERFORM recount_execution(fork_execution.execution_id);
  IF (SELECT e.leaves_left = 0 FROM workflow_executions e WHERE e.id = fork_execution.execution_id) THEN
    PERFORM finish_execution(fork_execution.execution_id, 'completed', NULL);
    execution_status := 'completed';
    RETURN;
  END IF;
  SELECT w.ready_steps, w.ready_attempts INTO ready_steps, ready_attempts FROM wake_execution(fork_execution.execution_id) w;
END $$;

CREATE FUNCTION release_hold(p_kind TEXT, p_name TEXT, OUT done BOOLEAN, OUT made_due BIGINT) LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM holds h WHERE h.kind = p_kind AND h.name = p_name;
  done := FOUND;
  WITH due AS (
    UPDATE workflow_steps s SET dispatch_after = now(), dispatch_count = 0
     WHERE s.dispatch_after > now() AND s.next_run_at <= now() AND done AND CASE p_kind
             WHEN 'tool' THEN s.tool = p_name
             WHEN 'server' THEN split_part(s.tool, '.', 1) = p_name
             ELSE p_name = (SELECT d.definition ->> 'name' FROM workflow_executions e
                              JOIN workflow_definitions d ON d.hash = e.definition_hash WHERE e.id = s.execution_id) END
    RETURNING 1)
  SELECT count(*) INTO made_due FROM due;
END $$;

