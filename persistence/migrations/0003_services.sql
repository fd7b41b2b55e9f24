-- For other services: labels and request hashes, workflows by name, keys of the HTTP API, and who changed what.

ALTER TABLE workflow_executions
  ADD COLUMN labels JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
  ADD COLUMN request_hash TEXT;

DROP INDEX idx_executions_workflow_id;
-- Listings: newest first, each filter with an order of its own, so that a page costs the same at any depth.
CREATE INDEX idx_executions_created ON workflow_executions (created_at DESC, id DESC);
CREATE INDEX idx_executions_status_created ON workflow_executions (status, created_at DESC, id DESC);
CREATE INDEX idx_executions_workflow_created ON workflow_executions (workflow_id, created_at DESC, id DESC)
  WHERE workflow_id IS NOT NULL;
CREATE INDEX idx_executions_triggered_created ON workflow_executions (triggered_by, created_at DESC, id DESC)
  WHERE triggered_by IS NOT NULL;
CREATE INDEX idx_executions_labels ON workflow_executions USING gin (labels jsonb_path_ops) WHERE labels <> '{}';

-- Who may use the HTTP API. The secret itself is stored nowhere.
CREATE TABLE api_keys (
  id            TEXT PRIMARY KEY CHECK (id ~ '^[a-z0-9]{12}$'),
  name          TEXT NOT NULL,
  role          TEXT NOT NULL CHECK (role IN ('viewer', 'submitter', 'operator', 'admin')),
  secret_hash   TEXT NOT NULL,                -- SHA-256, hexadecimal
  created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
  expires_at    TIMESTAMPTZ,
  revoked_at    TIMESTAMPTZ,
  last_used_at  TIMESTAMPTZ                   -- to the minute
);

-- Every change that came through the API or the command line: who, what, to which, and what it said.
CREATE TABLE audit_log (
  id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
  principal   TEXT NOT NULL,
  action      TEXT NOT NULL,
  target      TEXT,
  detail      JSONB
);

CREATE INDEX idx_audit_created ON audit_log (created_at DESC, id DESC);

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
           (d.definition -> 'config' ->> 'timeoutMs')::integer * interval '1 millisecond' AS timeout
      FROM workflow_definitions d WHERE d.hash = p_hash
  ), planned AS MATERIALIZED (
    SELECT p.* FROM definition d, jsonb_to_recordset(d.plan) p(step_name TEXT, step_index INTEGER, tool TEXT,
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
    SELECT time_ordered_uuid(), e.id, p.step_name, p.step_index, 'pending', p.tool, p.assign, p.successors,
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

-- A workflow's newest version; a definition that is the newest one's is no new version. A new version is enabled as the
-- one before it. Prevents: two versions of one number.
CREATE FUNCTION register_workflow(p_name TEXT, p_hash TEXT, p_description TEXT)
RETURNS TABLE (id UUID, version INTEGER, enabled BOOLEAN, created BOOLEAN) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  newest workflows;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('afu9 workflow ' || p_name, 0));
  SELECT w.* INTO newest FROM workflows w WHERE w.name = p_name ORDER BY w.version DESC LIMIT 1;
  IF newest.definition_hash = p_hash THEN
    RETURN QUERY SELECT newest.id, newest.version, newest.enabled, false;
    RETURN;
  END IF;
  RETURN QUERY
  INSERT INTO workflows AS w (name, version, definition_hash, description, enabled)
  VALUES (p_name, coalesce(newest.version, 0) + 1, p_hash, p_description, coalesce(newest.enabled, true))
  RETURNING w.id, w.version, w.enabled, true;
END $$;

-- - -> running, from any SQL client, in its own transaction: a rollback leaves nothing. The dispatcher finds the steps at its
-- next look. Runs with its owner's rights: whoever may call it needs no others.
CREATE FUNCTION afu9_start_workflow(name TEXT, input JSONB DEFAULT '{}', idempotency_key TEXT DEFAULT NULL,
                                    context JSONB DEFAULT '{}', title TEXT DEFAULT NULL, labels JSONB DEFAULT '{}',
                                    triggered_by TEXT DEFAULT NULL)
RETURNS UUID LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  newest  workflows;
  started UUID;
BEGIN
  SELECT w.* INTO newest FROM workflows w WHERE w.name = afu9_start_workflow.name ORDER BY w.version DESC LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no workflow is named %', quote_literal(name) USING ERRCODE = 'no_data_found';
  ELSIF NOT newest.enabled THEN
    RAISE EXCEPTION 'the workflow % is disabled', quote_literal(name) USING ERRCODE = 'object_not_in_prerequisite_state';
  ELSIF jsonb_typeof(input) IS DISTINCT FROM 'object' OR jsonb_typeof(context) IS DISTINCT FROM 'object'
        OR jsonb_typeof(labels) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'input, context and labels must be JSON objects' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT s.execution_id INTO started
    FROM submit_executions(newest.definition_hash, jsonb_build_array(jsonb_build_object(
           'id', time_ordered_uuid(), 'input', input, 'context', context - 'input', 'title', title, 'labels', labels,
           'triggered_by', coalesce(triggered_by, session_user), 'idempotency_key', idempotency_key)), newest.id) s;
  UPDATE workflow_steps s SET dispatch_after = now() WHERE s.execution_id = started AND s.dispatch_after > now()
     AND s.dispatch_count = 0 AND s.status = 'pending' AND s.next_run_at <= now();
  RETURN started;
END $$;
