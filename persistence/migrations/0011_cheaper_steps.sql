-- Two statements do less. The ids of an execution's steps are made of one hash, not of one hash a step: submitting an execution of
-- ten steps takes PostgreSQL a tenth less. Completing steps whose successors were all claimed looks for no others.

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
    SELECT lpad(to_hex(p.step_index), 5, '0') AS id_end, p.*
      FROM definition d, jsonb_to_recordset(d.plan) p(step_name TEXT, step_index INTEGER, tool TEXT, assign TEXT,
           successors INTEGER[], variable_steps INTEGER[], context_keys TEXT[], max_retries INTEGER, timeout_ms INTEGER,
           idempotent BOOLEAN, needs INTEGER)
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
    RETURNING e.id, (SELECT d.milliseconds FROM definition d) || '7' || left(md5(e.id::text), 3)
                    || '8' || right(md5(e.id::text), 10) AS id_start
  ), steps AS (
    INSERT INTO workflow_steps AS s (id, execution_id, step_name, step_index, status, tool, assign, successors,
                                     variable_steps, context_keys, max_retries, timeout_ms, idempotent, needs_left,
                                     next_run_at, dispatch_after)
    SELECT (e.id_start || p.id_end)::uuid, e.id, p.step_name, p.step_index, 'pending', p.tool, p.assign, p.successors,
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

CREATE OR REPLACE FUNCTION complete_steps(p_records JSONB, p_worker UUID, p_timeout_ms INTEGER, p_again BOOLEAN)
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

  IF array_position(taken, NULL) IS NOT NULL THEN
    FOR step IN SELECT s.* FROM unnest(ended, taken) d(ended, taken), LATERAL (
                       SELECT w.* FROM workflow_steps w WHERE w.id = d.ended OFFSET 0) s
                 WHERE d.taken IS NULL ORDER BY s.execution_id LOOP
      SELECT a.execution_status, a.ready_steps, a.ready_attempts INTO execution_status, ready_steps, ready_attempts
        FROM advance_execution(step.execution_id, step.successors) a;
      step_id := step.id;
      execution_id := step.execution_id;
      RETURN NEXT;
    END LOOP;
  END IF;

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

DROP FUNCTION step_uuid(TEXT, UUID, INTEGER);
