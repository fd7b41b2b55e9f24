-- Controls of many executions at once, as jobs that outlive whoever works on them.

-- A control of many executions, worked off by the orchestrators. status: pending -> running -> completed
CREATE TABLE control_jobs (
  id             UUID PRIMARY KEY,
  action         TEXT NOT NULL CHECK (action IN ('pause', 'resume', 'cancel', 'retry')),
  ids            UUID[],                  -- the executions; or
  filter         JSONB,                   -- what they have in common, as select_executions.sql takes it
  actor          TEXT NOT NULL,
  reason         TEXT,
  status         TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'completed')),
  total          INTEGER,                 -- of executions when it was made; null: more than were counted
  done           INTEGER NOT NULL DEFAULT 0,
  refused        INTEGER NOT NULL DEFAULT 0,
  cursor_at      TIMESTAMPTZ,             -- created_at and id of the execution that was the last so far, newest first
  cursor_id      UUID,
  claimed_until  TIMESTAMPTZ,             -- nobody else takes it before
  created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
  CHECK ((ids IS NULL) <> (filter IS NULL))
);

CREATE INDEX idx_jobs_open ON control_jobs (updated_at) WHERE status <> 'completed';

-- pending | running -> running: a job for this caller, who alone works on it for a while. The one that waits longest.
CREATE FUNCTION claim_job(p_lease_seconds DOUBLE PRECISION) RETURNS SETOF control_jobs LANGUAGE sql AS $$
  UPDATE control_jobs j
     SET status = 'running', claimed_until = now() + p_lease_seconds * interval '1 second', updated_at = now()
   WHERE j.id = (SELECT o.id FROM control_jobs o
                  WHERE o.status <> 'completed' AND (o.claimed_until IS NULL OR o.claimed_until < now())
                  ORDER BY o.updated_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
  RETURNING j.*
$$;

-- One execution of a job, and the job's progress, in one transaction. Prevents: an execution that is acted on twice, because
-- whoever worked on the job died. Not recorded: another has come as far already. `done`: the execution took the control.
CREATE FUNCTION control_for_job(p_job UUID, p_execution UUID, p_created_at TIMESTAMPTZ, p_lease_seconds DOUBLE PRECISION,
                                OUT recorded BOOLEAN, OUT done BOOLEAN, OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
DECLARE
  job     control_jobs;
  before  TEXT;
  goes_on BOOLEAN;
BEGIN
  UPDATE control_jobs j
     SET cursor_at = p_created_at, cursor_id = p_execution, updated_at = now(),
         claimed_until = now() + p_lease_seconds * interval '1 second'
   WHERE j.id = p_job AND j.status = 'running'
     AND (j.cursor_id IS NULL OR (p_created_at, p_execution) < (j.cursor_at, j.cursor_id))
  RETURNING j.* INTO job;
  recorded := FOUND;
  IF NOT recorded THEN RETURN; END IF;

  SELECT e.status, e.continue_on_error INTO before, goes_on FROM workflow_executions e
   WHERE e.id = p_execution AND e.definition_hash IS NOT NULL FOR NO KEY UPDATE;
  IF FOUND AND job.action = 'pause' THEN
    SELECT p.done INTO done FROM pause_execution(p_execution, job.actor, job.reason) p;
  ELSIF FOUND AND job.action = 'resume' THEN
    SELECT r.done, r.ready_steps, r.ready_attempts INTO done, ready_steps, ready_attempts
      FROM resume_execution(p_execution, job.actor, job.reason) r;
  ELSIF FOUND AND job.action = 'cancel' THEN
    SELECT c.done INTO done FROM cancel_execution(p_execution, job.actor, job.reason) c;
  ELSIF FOUND AND before IN ('failed', 'cancelled') THEN  -- retry: whatever failed runs again
    SELECT r.done, r.ready_steps, r.ready_attempts INTO done, ready_steps, ready_attempts
      FROM rerun_steps(p_execution, 'retry', ARRAY(SELECT s.step_index FROM workflow_steps s
                                                    WHERE s.execution_id = p_execution AND s.status = 'failed' AND NOT goes_on),
                       '{}', before, job.actor, job.reason) r;
  END IF;
  done := coalesce(done, false);
  UPDATE control_jobs j
     SET done = j.done + control_for_job.done::integer, refused = j.refused + (NOT control_for_job.done)::integer
   WHERE j.id = p_job;
END $$;

-- running -> completed, or free for the next one who comes.
CREATE FUNCTION leave_job(p_job UUID, p_completed BOOLEAN) RETURNS VOID LANGUAGE sql AS $$
  UPDATE control_jobs j
     SET status = CASE WHEN p_completed THEN 'completed' ELSE j.status END, claimed_until = NULL, updated_at = now()
   WHERE j.id = p_job AND j.status = 'running'
$$;
