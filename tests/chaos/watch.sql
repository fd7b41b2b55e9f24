-- The audit: every change of a step's status, attempt or result, with the name of the connection that made it. It knows nothing
-- of the engine's own fence, and the engine knows nothing of it.

CREATE TABLE chaos_transitions (
  id                BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at                TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  step_id           UUID NOT NULL,
  old_status        TEXT NOT NULL,
  new_status        TEXT NOT NULL,
  old_attempt       INTEGER NOT NULL,
  new_attempt       INTEGER NOT NULL,
  holder            UUID,           -- the worker that held the step before
  worker_id         UUID,           -- and the one that holds it now
  application_name  TEXT NOT NULL   -- of a worker's connection: its id
);

CREATE INDEX ON chaos_transitions (step_id, id);

CREATE FUNCTION chaos_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos_transitions (step_id, old_status, new_status, old_attempt, new_attempt, holder, worker_id, application_name)
  VALUES (NEW.id, OLD.status, NEW.status, OLD.attempt, NEW.attempt, OLD.worker_id, NEW.worker_id,
          current_setting('application_name'));
  RETURN NULL;
END $$;

CREATE TRIGGER chaos_watch AFTER UPDATE ON workflow_steps FOR EACH ROW
  WHEN (OLD.status <> NEW.status OR OLD.attempt <> NEW.attempt OR OLD.output IS DISTINCT FROM NEW.output
        OR OLD.completed_at IS DISTINCT FROM NEW.completed_at)
  EXECUTE FUNCTION chaos_note();
