-- A job can be cancelled, and one execution whose control fails does not keep the others waiting.

ALTER TABLE control_jobs
  ADD COLUMN failed        INTEGER NOT NULL DEFAULT 0,
  ADD COLUMN errors        JSONB NOT NULL DEFAULT '[]',
  ADD COLUMN tried_id      UUID,
  ADD COLUMN tries         INTEGER NOT NULL DEFAULT 0,
  ADD COLUMN cancelled_by  TEXT,
  ADD COLUMN cancel_reason TEXT,
  DROP CONSTRAINT control_jobs_status_check,
  ADD CONSTRAINT control_jobs_status_check CHECK (status IN ('pending', 'running', 'completed', 'cancelled'));

DROP INDEX idx_jobs_open;
CREATE INDEX idx_jobs_open ON control_jobs (updated_at) WHERE status IN ('pending', 'running');
CREATE INDEX idx_jobs_created ON control_jobs (created_at DESC, id DESC);

-- pending | running -> running: a job for this caller, who alone works on it for a while. The one that waits longest.
CREATE OR REPLACE FUNCTION claim_job(p_lease_seconds DOUBLE PRECISION) RETURNS SETOF control_jobs LANGUAGE sql AS $$
  UPDATE control_jobs j
     SET status = 'running', claimed_until = now() + p_lease_seconds * interval '1 second', updated_at = now()
   WHERE j.id = (SELECT o.id FROM control_jobs o
                  WHERE o.status IN ('pending', 'running') AND (o.claimed_until IS NULL OR o.claimed_until < now())
                  ORDER BY o.updated_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
  RETURNING j.*
$$;

-- One execution of a job, and the job's progress, in one transaction. Prevents: an execution that is acted on twice, because
-- whoever worked on the job died. Not recorded: another has come as far already. `done`: the execution took the control.
CREATE OR REPLACE FUNCTION control_for_job(p_job UUID, p_execution UUID, p_created_at TIMESTAMPTZ, p_lease_seconds DOUBLE PRECISION,
                                OUT recorded BOOLEAN, OUT done BOOLEAN, OUT ready_steps UUID[], OUT ready_attempts INTEGER[])
LANGUAGE plpgsql AS $$
DECLARE
  job     control_jobs;
  before  TEXT;
  goes_on BOOLEAN;
BEGIN
  UPDATE control_jobs j
     SET cursor_at = p_created_at, cursor_id = p_execution, tried_id = NULL, tries = 0, updated_at = now(),
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

-- One try at an execution of a job that met an error, and its control was undone. Prevents: one execution that keeps all others
-- waiting. The job pauses for a moment; after p_tries the execution counts as refused, its error is kept, and the job goes on.
-- Not recorded: another has come as far already, or the job was cancelled.
CREATE FUNCTION fail_for_job(p_job UUID, p_execution UUID, p_created_at TIMESTAMPTZ, p_error TEXT, p_tries INTEGER,
                             p_lease_seconds DOUBLE PRECISION, OUT recorded BOOLEAN, OUT given_up BOOLEAN)
LANGUAGE plpgsql AS $$
DECLARE
  tried INTEGER;
BEGIN
  UPDATE control_jobs j
     SET tried_id = p_execution, tries = CASE WHEN j.tried_id = p_execution THEN j.tries + 1 ELSE 1 END, updated_at = now()
   WHERE j.id = p_job AND j.status = 'running'
     AND (j.cursor_id IS NULL OR (p_created_at, p_execution) < (j.cursor_at, j.cursor_id))
  RETURNING j.tries INTO tried;
  recorded := FOUND;
  given_up := recorded AND tried >= p_tries;
  IF given_up THEN
    UPDATE control_jobs j
       SET cursor_at = p_created_at, cursor_id = p_execution, tried_id = NULL, tries = 0,
           claimed_until = now() + p_lease_seconds * interval '1 second', refused = j.refused + 1, failed = j.failed + 1,
           errors = CASE WHEN jsonb_array_length(j.errors) < 100
                         THEN j.errors || jsonb_build_object('execution_id', p_execution, 'error', p_error) ELSE j.errors END
     WHERE j.id = p_job;
  ELSIF recorded THEN
    UPDATE control_jobs j SET claimed_until = now() + tried * interval '1 second' WHERE j.id = p_job;
  END IF;
END $$;

-- pending | running -> cancelled. What was done stays done; an execution that is being acted on is waited for.
CREATE FUNCTION cancel_job(p_job UUID, p_actor TEXT, p_reason TEXT, OUT done BOOLEAN, OUT job_status TEXT)
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE control_jobs j
     SET status = 'cancelled', cancelled_by = p_actor, cancel_reason = p_reason, claimed_until = NULL, updated_at = now()
   WHERE j.id = p_job AND j.status IN ('pending', 'running')
  RETURNING j.status INTO job_status;
  done := FOUND;
  IF NOT done THEN
    SELECT j.status INTO job_status FROM control_jobs j WHERE j.id = p_job;
  END IF;
END $$;
