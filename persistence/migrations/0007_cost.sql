-- What calls cost: on each step, on the execution at rest, and by day; and config.maxCost, which stops before the call that
-- would cross it. Only attempts of servers with prices, and of executions with a limit, write more than before.
ALTER TABLE workflow_definitions ADD COLUMN name TEXT GENERATED ALWAYS AS (definition ->> 'name') STORED;
ALTER TABLE workflow_executions ADD COLUMN max_cost_nanos BIGINT CHECK (max_cost_nanos > 0),
                                ADD COLUMN cost_nanos BIGINT, ADD COLUMN unpriced_calls INTEGER;
ALTER TABLE workflow_steps ADD COLUMN cost_nanos BIGINT CHECK (cost_nanos >= 0), ADD COLUMN unpriced_calls INTEGER;

-- What was spent, by UTC day of the record: the sum of what stands on the steps, for as long as those are kept and longer.
-- A row per slot, so that workers seldom wait for each other; who reads adds the slots up. No row tells of attempts that
-- are not counted (docs/cost.md).
CREATE TABLE cost_days (
  day             DATE NOT NULL,
  workflow        TEXT NOT NULL,          -- its name, '' if it has none
  server          TEXT NOT NULL,
  tool            TEXT NOT NULL,
  slot            SMALLINT NOT NULL,
  calls           BIGINT NOT NULL,
  unpriced_calls  BIGINT NOT NULL,
  cost_nanos      BIGINT NOT NULL CHECK (cost_nanos >= 0),
  PRIMARY KEY (day, workflow, server, tool, slot)
) WITH (fillfactor = 70);

-- What an execution with a max_cost_nanos has spent, for its next call to be weighed against; others have no row.
CREATE TABLE execution_budgets (
  execution_id  UUID PRIMARY KEY REFERENCES workflow_executions(id) ON DELETE CASCADE,
  spent_nanos   BIGINT NOT NULL DEFAULT 0 CHECK (spent_nanos >= 0),
  reserved      JSONB NOT NULL DEFAULT '{}'  -- by step: what its call is sure to cost; holds while the step runs
);

-- What an execution cost so far, and how many of its calls have no known price. A step that completed without a price is such
-- a call, and one more for each attempt that was lost; the tools of builtin are free, and a result that was taken over from
-- another execution, or given by a person, is no call.
CREATE FUNCTION execution_cost(p_execution UUID, OUT cost_nanos BIGINT, OUT unpriced_calls INTEGER, OUT running BOOLEAN)
LANGUAGE sql STABLE AS $$
  SELECT sum(s.cost_nanos)::bigint,
         coalesce(sum(greatest(s.unpriced_calls,
           CASE WHEN s.status = 'completed' AND s.cost_nanos IS NULL AND s.reused_from IS NULL
                 AND NOT coalesce(s.override ? 'output', false) AND s.tool NOT LIKE 'builtin.%'
                THEN s.lost_count + 1 END)), 0)::integer,
         coalesce(bool_or(s.status = 'running'), false)
    FROM workflow_steps s WHERE s.execution_id = p_execution
$$;

-- Adds what attempts cost, just recorded on their steps, to their day and to the budgets of their executions. Null, or no cost:
-- unpriced. Prevents: a sum that is not the steps'. The last act of a transition, and in one order: whoever waits here holds
-- nothing that is taken before it, so no two wait for each other.
CREATE FUNCTION note_costs(p_steps UUID[], p_costs BIGINT[]) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  limited UUID[];
BEGIN
  SELECT array_agg(l.execution_id) INTO limited FROM (
    SELECT b.execution_id FROM execution_budgets b
     WHERE b.execution_id IN (SELECT s.execution_id FROM workflow_steps s WHERE s.id = ANY (p_steps))
     ORDER BY b.execution_id FOR NO KEY UPDATE) l;
  IF limited IS NOT NULL THEN
    UPDATE execution_budgets b SET spent_nanos = b.spent_nanos + p.cost
      FROM (SELECT s.execution_id, sum(c.cost) AS cost
              FROM unnest(p_steps, p_costs) c(step, cost) JOIN workflow_steps s ON s.id = c.step
             WHERE c.cost IS NOT NULL GROUP BY 1) p
     WHERE b.execution_id = p.execution_id;
  END IF;

  INSERT INTO cost_days AS d (day, workflow, server, tool, slot, calls, unpriced_calls, cost_nanos)
  SELECT (now() AT TIME ZONE 'UTC')::date, coalesce(w.name, ''), split_part(s.tool, '.', 1),
         substr(s.tool, strpos(s.tool, '.') + 1), pg_backend_pid() % 16,
         count(*), count(*) FILTER (WHERE c.cost IS NULL), coalesce(sum(c.cost), 0)
    FROM unnest(p_steps, p_costs) c(step, cost)
    JOIN workflow_steps s ON s.id = c.step
    JOIN workflow_executions e ON e.id = s.execution_id
    LEFT JOIN workflow_definitions w ON w.hash = e.definition_hash
   GROUP BY 2, 3, 4
   ORDER BY 2, 3, 4
  ON CONFLICT (day, workflow, server, tool, slot) DO UPDATE
     SET calls = d.calls + EXCLUDED.calls, unpriced_calls = d.unpriced_calls + EXCLUDED.unpriced_calls,
         cost_nanos = d.cost_nanos + EXCLUDED.cost_nanos;
END $$;

-- Counts a call whose price nobody knows, of a step that the same statement hands back.
CREATE FUNCTION count_unpriced(p_step UUID) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
  UPDATE workflow_steps s SET unpriced_calls = coalesce(s.unpriced_calls, 0) + 1 WHERE s.id = p_step;
  PERFORM note_costs(ARRAY[p_step], '{}');
  RETURN true;
END $$;

-- running, before its call: sets aside what the call is sure to cost, if the execution's max_cost_nanos has room for it
-- beside what is spent and set aside by other running steps (spent_nanos). Prevents: two calls that each see room for one.
-- An attempt that no longer holds its step is not admitted, and spent_nanos is null.
CREATE FUNCTION reserve_cost(p_step UUID, p_attempt INTEGER, p_nanos BIGINT,
                             OUT admitted BOOLEAN, OUT spent_nanos BIGINT, OUT max_nanos BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
  execution UUID;
  others    JSONB;
BEGIN
  admitted := false;
  SELECT s.execution_id, e.max_cost_nanos INTO execution, max_nanos
    FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
   WHERE s.id = p_step AND s.attempt = p_attempt AND s.status = 'running';
  IF NOT FOUND THEN RETURN; END IF;
  INSERT INTO execution_budgets (execution_id) VALUES (execution) ON CONFLICT DO NOTHING;
  PERFORM FROM execution_budgets b WHERE b.execution_id = execution FOR NO KEY UPDATE;

  -- A statement of its own: its snapshot holds what was spent and set aside while this one waited for the row.
  SELECT b.spent_nanos + coalesce(r.nanos, 0), coalesce(r.steps, '{}') INTO spent_nanos, others
    FROM execution_budgets b, LATERAL (
         SELECT sum(x.value::bigint) AS nanos, jsonb_object_agg(x.key, x.value) AS steps
           FROM jsonb_each(b.reserved) x JOIN workflow_steps s ON s.id = x.key::uuid AND s.status = 'running'
          WHERE s.id <> p_step) r
   WHERE b.execution_id = execution;
  admitted := coalesce(spent_nanos < max_nanos AND spent_nanos + p_nanos <= max_nanos, true);
  UPDATE execution_budgets b
     SET reserved = others || CASE WHEN admitted THEN jsonb_build_object(p_step, p_nanos) ELSE '{}' END
   WHERE b.execution_id = execution;
END $$;

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
    SELECT d.plan, coalesce((d.config ->> 'continueOnError')::boolean, false) AS continue_on_error,
           (d.config ->> 'timeoutMs')::integer * interval '1 millisecond' AS timeout,
           round((d.config ->> 'maxCost')::numeric * 1000000000)::bigint AS max_cost,
           lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') AS milliseconds
      FROM (SELECT w.plan, w.definition -> 'config' AS config FROM workflow_definitions w WHERE w.hash = p_hash OFFSET 0) d
  ), planned AS MATERIALIZED (
    SELECT d.milliseconds, p.* FROM definition d, jsonb_to_recordset(d.plan) p(step_name TEXT, step_index INTEGER, tool TEXT,
           assign TEXT, successors INTEGER[], variable_steps INTEGER[], context_keys TEXT[], max_retries INTEGER,
           timeout_ms INTEGER, idempotent BOOLEAN, needs INTEGER)
  ), executions AS (
    INSERT INTO workflow_executions AS e (id, workflow_id, status, input, context, title, triggered_by, github_run_id,
                                          idempotency_key, request_hash, labels, definition_hash, continue_on_error,
                                          leaves_left, deadline_at, max_cost_nanos)
    SELECT q.id, p_workflow, 'running', q.input, q.context, q.title, q.triggered_by, q.github_run_id,
           q.idempotency_key, q.request_hash, coalesce(q.labels, '{}'), p_hash, d.continue_on_error,
           (SELECT count(*) FROM planned WHERE successors = '{}'), now() + d.timeout, d.max_cost
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

-- Their answers have another column.
DROP FUNCTION claim_of(workflow_steps);
DROP FUNCTION claim_steps(UUID[], INTEGER[], UUID, INTEGER);
DROP FUNCTION claim_again(UUID, INTEGER, UUID);
DROP FUNCTION complete_steps(JSONB, UUID, INTEGER, BOOLEAN);
DROP FUNCTION charge_step(UUID, INTEGER, TEXT, TEXT, BOOLEAN, INTEGER, JSONB, BOOLEAN, INTEGER);

-- What a claim hands over: the step, and in scope the variables and context keys it reads. The variable of a step that
-- did not complete is null. Reads one row per variable, however long the execution is.
CREATE FUNCTION claim_of(p_step workflow_steps)
RETURNS TABLE (execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB, max_cost_nanos BIGINT) LANGUAGE sql STABLE AS $$
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
         p_step.retry_count - p_step.lost_count - p_step.retries_before, p_step.override, e.max_cost_nanos
    FROM workflow_executions e WHERE e.id = p_step.execution_id OFFSET 0  -- looked up, whatever it is joined with
$$;

-- pending -> running, of any number of steps. Prevents: two workers on one attempt, a step before its time, a step of an
-- execution at rest. Answers the steps that the worker is to run; they are taken in one order, so that two calls never wait
-- for each other.
CREATE FUNCTION claim_steps(p_steps UUID[], p_attempts INTEGER[], p_worker UUID, p_timeout_ms INTEGER)
RETURNS TABLE (step_id UUID, execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB, max_cost_nanos BIGINT)
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

-- running -> running: the claim's answer once more, for the worker whose connection broke before it came. Prevents: a
-- step in the hands of a worker that does not know it. To be asked by the one that claimed, and by nobody else there.
CREATE FUNCTION claim_again(p_step UUID, p_attempt INTEGER, p_worker UUID)
RETURNS TABLE (step_id UUID, execution_id UUID, step_index INTEGER, attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB, max_cost_nanos BIGINT) LANGUAGE sql STABLE AS $$
  SELECT s.id, c.* FROM workflow_steps s, claim_of(s) c
   WHERE s.id = p_step AND s.attempt = p_attempt + 1 AND s.status = 'running' AND s.worker_id = p_worker
$$;

-- running | paused -> completed | failed | cancelled. Writes output, context and cost whole, once; its waiting steps leave the
-- outbox. Prevents: an execution that ends twice.
CREATE OR REPLACE FUNCTION finish_execution(p_execution UUID, p_status TEXT, p_error TEXT)
RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
  whole JSONB;
BEGIN
  -- Locked first: the next statement's snapshot then holds what other branches assigned meanwhile.
  PERFORM FROM workflow_executions e WHERE e.id = p_execution FOR NO KEY UPDATE;
  whole := execution_context(p_execution);
  UPDATE workflow_executions e
     SET status = p_status, error = p_error, completed_at = now(), updated_at = now(),
         output = whole -> 'variables', context = whole,
         (cost_nanos, unpriced_calls) = (SELECT c.cost_nanos, CASE WHEN NOT c.running THEN c.unpriced_calls END
                                           FROM execution_cost(e.id) c),
         leaves_left = CASE WHEN p_status = 'completed' THEN 0 ELSE e.leaves_left END
   WHERE e.id = p_execution AND e.status IN ('running', 'paused');
  IF NOT FOUND THEN RETURN false; END IF;
  IF p_status <> 'completed' THEN
    UPDATE workflow_steps s SET dispatch_after = NULL
     WHERE s.execution_id = p_execution AND s.status = 'pending' AND s.dispatch_after IS NOT NULL;
  END IF;
  RETURN true;
END $$;

-- running -> completed | skipped, of any number of steps, and pending -> running of each one's successor where the worker
-- goes on with it. Prevents: a result recorded by an attempt that no longer holds the step, and a step between two workers.
-- p_records: [{step, attempt, output, input, hand_over, cost}]; without output the condition was false. cost: of this attempt,
-- null if nobody knows it, left out if it is not counted. hand_over: if the step has
-- one successor, which waits for nothing else, that is claimed for p_worker and answered in next_*. p_again: an earlier call's
-- answer was lost; what that one did is answered. Answers a row for each step that is recorded. At most one record of an
-- execution, and what executions share is taken in the order of their ids, so that two calls never wait for each other.
CREATE FUNCTION complete_steps(p_records JSONB, p_worker UUID, p_timeout_ms INTEGER, p_again BOOLEAN)
RETURNS TABLE (step_id UUID, execution_id UUID, execution_status TEXT, ready_steps UUID[], ready_attempts INTEGER[],
               next_step UUID, next_index INTEGER, next_attempt INTEGER, definition_hash TEXT, scope JSONB,
               retries_so_far INTEGER, override JSONB, max_cost_nanos BIGINT)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
                 SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
  ended UUID[];
  taken UUID[];
  paid  UUID[];
  costs BIGINT[];
  step  workflow_steps;
BEGIN
  WITH entries AS MATERIALIZED (
    SELECT (r ->> 'step')::uuid AS step, (r ->> 'attempt')::integer AS attempt, r -> 'output' AS output,
           r -> 'input' AS input, (r -> 'hand_over')::boolean AS hand_over, (r ->> 'cost')::bigint AS cost, r ? 'cost' AS paid
      FROM jsonb_array_elements(p_records) r WHERE jsonb_typeof(r) = 'object'  -- to the planner: one
  ), recorded AS (
    UPDATE workflow_steps s
       SET status = CASE WHEN e.output IS NULL THEN 'skipped' ELSE 'completed' END,
           output = e.output, input = coalesce(e.input, s.input), error = NULL, error_kind = NULL, worker_id = NULL,
           deadline_at = NULL, completed_at = now(), updated_at = now(),
           duration_ms = CASE WHEN e.output IS NULL THEN 0
                              ELSE round(extract(epoch FROM now() - s.started_at) * 1000) END,
           cost_nanos = coalesce(s.cost_nanos + e.cost, e.cost, s.cost_nanos),
           unpriced_calls = CASE WHEN e.paid AND e.cost IS NULL THEN coalesce(s.unpriced_calls, 0) + 1 ELSE s.unpriced_calls END
      FROM entries e WHERE s.id = e.step AND s.attempt = e.attempt AND s.status = 'running'
    RETURNING s.id, s.execution_id, e.cost, e.paid, CASE WHEN e.hand_over AND cardinality(s.successors) = 1 THEN s.successors[1] END AS wanted
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
  SELECT array_agg(r.id), array_agg(c.id), array_agg(r.id) FILTER (WHERE r.paid), array_agg(r.cost) FILTER (WHERE r.paid)
    INTO ended, taken, paid, costs FROM recorded r LEFT JOIN claimed c ON c.before = r.id;

  RETURN QUERY
  SELECT d.ended, c.execution_id, 'running', NULL::uuid[], NULL::integer[], d.taken, c.step_index, c.attempt, c.definition_hash,
         c.scope, c.retries_so_far, c.override, c.max_cost_nanos
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

  IF paid IS NOT NULL THEN
    PERFORM note_costs(paid, costs);
  END IF;

  IF p_again THEN
    RETURN QUERY
    SELECT s.id, s.execution_id, x.status::text, f.steps, f.attempts, n.id, c.step_index, c.attempt, c.definition_hash,
           c.scope, c.retries_so_far, c.override, c.max_cost_nanos
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

-- running -> pending (retry, after p_delay_ms) | failed. A failed step fails its execution, or goes on with
-- continueOnError. Prevents: an attempt charged twice, by its worker and by the reaper.
-- p_lost: the worker died or fell silent. That is not the tool's failure: it is charged against p_max_lost, not against
-- max_retries, so that a deployment does not use up a step's retries and a step that kills its workers ends all the same.
-- A lost call may have run: where that is not safe to repeat, the step fails as outcome_unknown, for a person to decide.
-- p_cost: of this attempt; p_unpriced: it called the tool, at a price that nobody knows. So may have one that was lost.
CREATE FUNCTION charge_step(p_step UUID, p_attempt INTEGER, p_kind TEXT, p_error TEXT, p_retryable BOOLEAN,
                            p_delay_ms INTEGER, p_input JSONB, p_lost BOOLEAN, p_max_lost INTEGER,
                            p_cost BIGINT DEFAULT NULL, p_unpriced BOOLEAN DEFAULT false,
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

  p_unpriced := p_unpriced OR ((p_lost OR p_kind = 'engine_error') AND step.tool NOT LIKE 'builtin.%');
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
         duration_ms = CASE WHEN NOT again THEN round(extract(epoch FROM now() - s.started_at) * 1000) END,
         cost_nanos = coalesce(s.cost_nanos + p_cost, p_cost, s.cost_nanos),
         unpriced_calls = CASE WHEN p_unpriced THEN coalesce(s.unpriced_calls, 0) + 1 ELSE s.unpriced_calls END
   WHERE s.id = step.id;

  IF again THEN
    NULL;
  ELSIF (SELECT e.continue_on_error FROM workflow_executions e WHERE e.id = step.execution_id) THEN
    SELECT a.* INTO execution_status, ready_steps, ready_attempts FROM advance_execution(step.execution_id, step.successors) a;
  ELSIF finish_execution(step.execution_id, 'failed', format('step %s: %s', step.step_name, p_error)) THEN
    execution_status := 'failed';
  END IF;
  IF (p_cost IS NOT NULL OR p_unpriced) AND NOT p_lost THEN  -- reap_steps does it for all it charges, at its end
    PERFORM note_costs(ARRAY[step.id], ARRAY[p_cost]);
  END IF;
END $$;

-- Charges the running steps of silent workers and those past their deadline. Prevents: a step that runs for ever in
-- nobody's hands. Any number may call it at once.
CREATE OR REPLACE FUNCTION reap_steps(p_silence_seconds DOUBLE PRECISION, p_max_lost INTEGER, p_limit INTEGER)
RETURNS TABLE (step_id UUID, attempt INTEGER, reason TEXT, step_status TEXT, execution_id UUID, execution_status TEXT,
               ready_steps UUID[], ready_attempts INTEGER[]) LANGUAGE plpgsql AS $$
DECLARE
  lost RECORD;
  paid UUID[];
BEGIN
  FOR lost IN
    SELECT s.id, s.attempt, s.tool, s.lost_count, CASE WHEN w.id IS NULL THEN 'its worker is gone'
                              WHEN s.deadline_at < now() THEN 'it ran past its deadline'
                              ELSE 'its worker fell silent' END AS reason
      FROM workflow_steps s LEFT JOIN workers w ON w.id = s.worker_id
     WHERE s.status = 'running' AND s.worker_id IS NOT NULL
       AND (w.id IS NULL OR s.deadline_at < now() OR w.heartbeat_at < now() - p_silence_seconds * interval '1 second')
     ORDER BY s.execution_id, s.step_index  -- two reapers meet in one order
     LIMIT p_limit FOR NO KEY UPDATE OF s SKIP LOCKED
  LOOP
    RETURN QUERY
    SELECT lost.id, lost.attempt, lost.reason, c.step_status, c.execution_id, c.execution_status,
           CASE WHEN c.step_status = 'pending' THEN ARRAY[lost.id] ELSE c.ready_steps END,
           CASE WHEN c.step_status = 'pending' THEN ARRAY[lost.attempt] ELSE c.ready_attempts END
      FROM charge_step(lost.id, lost.attempt, 'worker_lost',
                       format('attempt %s was lost: %s', lost.attempt, lost.reason), true, 0, NULL, true, p_max_lost) c
     WHERE c.recorded;
    IF FOUND AND lost.tool NOT LIKE 'builtin.%' THEN
      paid := paid || lost.id;
    END IF;
  END LOOP;
  IF paid IS NOT NULL THEN
    PERFORM note_costs(paid, '{}');
  END IF;
END $$;
