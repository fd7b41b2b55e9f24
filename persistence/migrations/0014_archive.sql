-- Old executions leave into files, and where each went is known. And reserve_cost looks steps up by id: it read the table whole.

-- Executions that were taken out of the tables into files: a row per run of `afu9 archive`, and where each execution went.
CREATE TABLE workflow_archives (
  id           UUID PRIMARY KEY,            -- the run's, which names its directory too
  location     TEXT NOT NULL,               -- the directory's URL
  older_than   TIMESTAMPTZ NOT NULL,        -- what ended before was taken
  executions   BIGINT NOT NULL DEFAULT 0,   -- taken so far
  created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
  finished_at  TIMESTAMPTZ                  -- null: under way, or interrupted
);

CREATE TABLE archived_executions (
  execution_id  UUID PRIMARY KEY,
  archive       UUID NOT NULL REFERENCES workflow_archives(id)
);

-- What an execution's rows are now, of every table that belongs to it: another version of a row, one more or one less, and it
-- differs. Also how many rows, when the last thing happened, and whether a worker holds one of its steps.
CREATE FUNCTION execution_version(p_execution UUID, OUT version TEXT, OUT row_count BIGINT, OUT active_at TIMESTAMPTZ,
                                  OUT held BOOLEAN) LANGUAGE sql STABLE AS $$
  SELECT md5(string_agg(r.row, ',' ORDER BY r.row)), count(*), max(r.at), bool_or(r.held)
    FROM (SELECT 'e' || e.xmin::text, greatest(e.completed_at, e.created_at), false FROM workflow_executions e WHERE e.id = p_execution
          UNION ALL
          SELECT 's' || s.id || s.xmin::text, s.completed_at, s.worker_id IS NOT NULL FROM workflow_steps s WHERE s.execution_id = p_execution
          UNION ALL
          SELECT 'v' || v.id || v.xmin::text, v.created_at, false FROM workflow_events v WHERE v.execution_id = p_execution
          UNION ALL
          SELECT 'r' || r.id || r.xmin::text, r.completed_at, false FROM workflow_step_results r WHERE r.execution_id = p_execution
          UNION ALL
          SELECT 'b' || b.xmin::text, NULL, false FROM execution_budgets b WHERE b.execution_id = p_execution) r(row, at, held)
$$;

-- The execution is meant by a control of many that is still worked off.
CREATE FUNCTION is_wanted(p_execution UUID, p_status TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM control_jobs j
                  WHERE j.status IN ('pending', 'running')
                    AND (p_execution = ANY (j.ids) OR j.filter IS NOT NULL AND j.action = 'retry' AND p_status <> 'completed'))
$$;

-- Deletes those executions that rest and are what they were when they were written to a file, with all that belongs to them, and
-- notes where they went; answers them. Prevents: a row deleted that is in no file. Whoever holds one of their rows is not waited for.
CREATE FUNCTION delete_archived(p_archive UUID, p_executions UUID[], p_versions TEXT[]) RETURNS UUID[] LANGUAGE plpgsql AS $$
DECLARE
  free UUID[];
  gone UUID[];
BEGIN
  -- Locked first: a later statement's snapshot then holds what was written meanwhile, and no more rows can come to belong to them.
  free := ARRAY(SELECT e.id FROM workflow_executions e
                 WHERE e.id = ANY (p_executions) AND e.status IN ('completed', 'failed', 'cancelled')
                   AND NOT is_wanted(e.id, e.status)
                 ORDER BY e.id FOR UPDATE SKIP LOCKED);
  WITH locked AS MATERIALIZED (
    SELECT s.execution_id FROM workflow_steps s WHERE s.execution_id = ANY (free) FOR UPDATE SKIP LOCKED
  ), counted AS (
    SELECT l.execution_id, count(*) AS steps FROM locked l GROUP BY 1)
  SELECT array_agg(f.id) INTO free FROM unnest(free) f(id) LEFT JOIN counted c ON c.execution_id = f.id
   WHERE coalesce(c.steps, 0) = (SELECT count(*) FROM workflow_steps s WHERE s.execution_id = f.id);
  WITH deleted AS (
    DELETE FROM workflow_executions e USING unnest(p_executions, p_versions) w(id, version)
     WHERE e.id = w.id AND e.id = ANY (free) AND (SELECT v.version FROM execution_version(e.id) v) = w.version
    RETURNING e.id
  ), noted AS (
    INSERT INTO archived_executions (execution_id, archive) SELECT d.id, p_archive FROM deleted d
    ON CONFLICT (execution_id) DO UPDATE SET archive = EXCLUDED.archive)
  SELECT array_agg(d.id) INTO gone FROM deleted d;
  UPDATE workflow_archives a SET executions = a.executions + coalesce(cardinality(gone), 0) WHERE a.id = p_archive;
  RETURN coalesce(gone, '{}');
END $$;

CREATE OR REPLACE FUNCTION reserve_cost(p_step UUID, p_attempt INTEGER, p_nanos BIGINT,
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
           FROM jsonb_each(b.reserved) x, LATERAL (
                SELECT FROM workflow_steps s WHERE s.id = x.key::uuid AND s.status = 'running' OFFSET 0) s  -- looked up by id
          WHERE x.key <> p_step::text) r
   WHERE b.execution_id = execution;
  admitted := coalesce(spent_nanos < max_nanos AND spent_nanos + p_nanos <= max_nanos, true);
  UPDATE execution_budgets b
     SET reserved = others || CASE WHEN admitted THEN jsonb_build_object(p_step, p_nanos) ELSE '{}' END
   WHERE b.execution_id = execution;
END $$;
