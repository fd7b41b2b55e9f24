-- Statistics: what ended, counted in buckets that outlive the rows; and what ended last, found by when.

-- B-trees of whatever has ended, each grown at its end: complete_steps takes as long with them as without, 90 bytes of WAL a step
-- more. BRIN would cost nothing to write, but reads all pages since the last VACUUM: at a million steps 840 ms for a bucket, not 40.
CREATE INDEX idx_executions_completed ON workflow_executions (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX idx_steps_completed ON workflow_steps (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX idx_events_created ON workflow_events (created_at);
CREATE INDEX idx_step_results_completed ON workflow_step_results (completed_at) WHERE completed_at IS NOT NULL;

-- What ended, counted in buckets of 5 minutes, an hour and a day (UTC), for as long as roll_up keeps them: longer than the rows
-- they were counted from. Each end is counted once; one that a person has run again and that ends again is another end.
CREATE TABLE execution_rollups (
  seconds      INTEGER NOT NULL CHECK (seconds IN (300, 3600, 86400)),  -- the bucket's length
  bucket       TIMESTAMPTZ NOT NULL,        -- its begin
  workflow     TEXT NOT NULL,               -- its name, '' if it has none
  status       TEXT NOT NULL CHECK (status IN ('completed', 'failed', 'cancelled')),
  bin          SMALLINT NOT NULL,           -- how long they took: duration_bin
  endings      BIGINT NOT NULL,
  duration_ms  BIGINT NOT NULL,             -- of all of them
  PRIMARY KEY (seconds, bucket, workflow, status, bin)
);

-- outcome: how steps ended; or, of attempts: retried, it failed or was lost and the step was tried again; lost, with its worker
CREATE TABLE step_rollups (
  seconds      INTEGER NOT NULL CHECK (seconds IN (300, 3600, 86400)),
  bucket       TIMESTAMPTZ NOT NULL,
  workflow     TEXT NOT NULL,
  step         TEXT NOT NULL,
  tool         TEXT NOT NULL,               -- server.tool, '' if it is not known
  outcome      TEXT NOT NULL CHECK (outcome IN ('completed', 'failed', 'skipped', 'retried', 'lost')),
  bin          SMALLINT NOT NULL,
  endings      BIGINT NOT NULL,
  duration_ms  BIGINT NOT NULL,
  PRIMARY KEY (seconds, bucket, workflow, step, tool, outcome, bin)
);

-- Errors of failed steps, by their shape.
CREATE TABLE error_rollups (
  seconds      INTEGER NOT NULL CHECK (seconds IN (300, 3600, 86400)),
  bucket       TIMESTAMPTZ NOT NULL,
  workflow     TEXT NOT NULL,
  fingerprint  TEXT NOT NULL,               -- of error_shapes
  failures     BIGINT NOT NULL,
  PRIMARY KEY (seconds, bucket, workflow, fingerprint)
);

CREATE TABLE error_shapes (
  fingerprint  TEXT PRIMARY KEY,            -- of kind, tool and shape; 'other': those that are too many to be told apart
  kind         TEXT NOT NULL,
  tool         TEXT NOT NULL,
  shape        TEXT NOT NULL,               -- the error without what differs from one failure to the next: error_shape
  first_seen   TIMESTAMPTZ NOT NULL,
  last_seen    TIMESTAMPTZ NOT NULL,
  example      UUID NOT NULL                -- the execution that failed last; may be gone
);

CREATE INDEX idx_error_shapes_seen ON error_shapes (last_seen);

-- The executions that cost most, twenty of each UTC day on which they ended.
CREATE TABLE dear_executions (
  day            DATE NOT NULL,
  execution_id   UUID NOT NULL,             -- may be gone
  workflow       TEXT NOT NULL,
  title          TEXT,
  status         TEXT NOT NULL,
  cost_nanos     BIGINT NOT NULL,           -- in all, also of what a person ran again
  PRIMARY KEY (day, execution_id)
);

-- One row. Whoever counts holds it.
CREATE TABLE rollup_progress (
  one           BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
  rolled_until  TIMESTAMPTZ NOT NULL        -- what ended before is counted
);

-- ------------------------------------------------------------------------------------------------ statistics

-- The begin of the bucket that a moment is in, by UTC, whatever the session's zone and its summer time.
CREATE FUNCTION bucket_of(p_seconds INTEGER, p_at TIMESTAMPTZ) RETURNS TIMESTAMPTZ LANGUAGE sql IMMUTABLE AS $$
  SELECT date_bin(p_seconds * interval '1 second', p_at, to_timestamp(0))
$$;

-- Durations in classes with fixed bounds, four to each doubling: of class n are those up to 2^(n/4) ms.
CREATE FUNCTION duration_bin(p_ms DOUBLE PRECISION) RETURNS SMALLINT LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_ms > 1 THEN least(ceil(4 * ln(p_ms) / ln(2.0::double precision)), 200) ELSE 0 END::smallint
$$;

-- An error without what differs from one failure to the next: ids, times, hexadecimal texts, numbers that are no code.
CREATE FUNCTION error_shape(p_error TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
  SELECT left(btrim(regexp_replace(
    regexp_replace(regexp_replace(regexp_replace(regexp_replace(left(coalesce(p_error, ''), 1000),
      '\m[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\M', '<id>', 'gi'),
      '\m\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?)?', '<time>', 'g'),
      '\m(?=[0-9a-f]*\d)[0-9a-f]{8,}\M', '<hex>', 'gi'),
      '(?!^[45]\d\d\M)(?<!HTTP )(?<!status )(?<!code )(?<!error )(?<!code -)(?<!error -)\m\d+(\.\d+)?', '<n>', 'g'),
    '\s+', ' ', 'g')), 300)
$$;

-- Adds the executions that ended in a span of time to the rollups.
CREATE FUNCTION count_executions_ended(p_from TIMESTAMPTZ, p_until TIMESTAMPTZ, p_workflows TEXT[]) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$  -- a plan for any span of time would read whole tables
BEGIN
  WITH ended AS (
    SELECT e.id, e.status, e.started_at, e.completed_at AS at, e.definition_hash, e.title, e.cost_nanos
      FROM workflow_executions e
     WHERE e.completed_at >= p_from AND e.completed_at < p_until AND e.status IN ('completed', 'failed', 'cancelled')
     UNION ALL  -- and the ends that a person has undone since
    SELECT e.id, v.detail ->> 'from', e.started_at, (v.detail ->> 'completed_at')::timestamptz, e.definition_hash, NULL, NULL
      FROM workflow_events v JOIN workflow_executions e ON e.id = v.execution_id
     WHERE v.created_at >= p_from AND v.event = 'control' AND v.detail ->> 'from' IN ('completed', 'failed', 'cancelled')
       AND (v.detail ->> 'completed_at')::timestamptz >= p_from AND (v.detail ->> 'completed_at')::timestamptz < p_until
  ), timed AS MATERIALIZED (
    SELECT coalesce(d.name, '') AS workflow, n.id, n.status, n.at, n.title, n.cost_nanos,
           greatest(extract(epoch FROM n.at - coalesce(a.again, n.started_at, n.at)) * 1000, 0) AS ms
      FROM ended n LEFT JOIN workflow_definitions d ON d.hash = n.definition_hash,
           LATERAL (SELECT max(v.created_at) AS again FROM workflow_events v
                     WHERE v.execution_id = n.id AND v.event = 'control' AND v.detail ? 'completed_at' AND v.created_at < n.at) a
     WHERE p_workflows IS NULL OR coalesce(d.name, '') = ANY (p_workflows)
  ), counted AS (
    SELECT bucket_of(300, t.at) AS bucket, t.workflow, t.status, duration_bin(t.ms::double precision) AS bin, count(*) AS endings,
           sum(round(t.ms)::bigint) AS duration_ms
      FROM timed t GROUP BY 1, 2, 3, 4
  ), dear AS (
    INSERT INTO dear_executions AS d (day, execution_id, workflow, title, status, cost_nanos)
    SELECT r.day, r.id, r.workflow, r.title, r.status, r.cost_nanos
      FROM (SELECT t.*, (t.at AT TIME ZONE 'UTC')::date AS day,
                   row_number() OVER (PARTITION BY (t.at AT TIME ZONE 'UTC')::date ORDER BY t.cost_nanos DESC, t.id) AS rank
              FROM timed t WHERE t.cost_nanos > 0) r
     WHERE r.rank <= 20
    ON CONFLICT (day, execution_id) DO UPDATE SET status = EXCLUDED.status, cost_nanos = EXCLUDED.cost_nanos)
  INSERT INTO execution_rollups AS r (seconds, bucket, workflow, status, bin, endings, duration_ms)
  SELECT l.seconds, bucket_of(l.seconds, c.bucket), c.workflow, c.status, c.bin, sum(c.endings), sum(c.duration_ms)
    FROM counted c, (VALUES (300), (3600), (86400)) l(seconds) GROUP BY 1, 2, 3, 4, 5
  ON CONFLICT (seconds, bucket, workflow, status, bin) DO UPDATE
     SET endings = r.endings + EXCLUDED.endings, duration_ms = r.duration_ms + EXCLUDED.duration_ms;

  DELETE FROM dear_executions d USING (
    SELECT x.day, x.execution_id, row_number() OVER (PARTITION BY x.day ORDER BY x.cost_nanos DESC, x.execution_id) AS rank
      FROM dear_executions x
     WHERE x.day BETWEEN (p_from AT TIME ZONE 'UTC')::date AND (p_until AT TIME ZONE 'UTC')::date) r
   WHERE r.rank > 20 AND d.day = r.day AND d.execution_id = r.execution_id;
END $$;

-- Adds the steps that ended in a span of time, the attempts that did not make it, and the errors of failed steps. A result that was
-- taken over from another execution ended there. In one statement: a step that a person runs again meanwhile is seen once.
CREATE FUNCTION count_steps_ended(p_from TIMESTAMPTZ, p_until TIMESTAMPTZ, p_workflows TEXT[]) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
  WITH ended AS MATERIALIZED (
    SELECT s.id, s.attempt, s.execution_id, s.step_name, s.tool, s.status, s.completed_at AS at, s.duration_ms, s.error_kind, s.error
      FROM workflow_steps s
     WHERE s.completed_at >= p_from AND s.completed_at < p_until AND s.status IN ('completed', 'failed', 'skipped')
       AND s.reused_from IS NULL
     UNION ALL
    SELECT r.step_id, r.attempt, r.execution_id, s.step_name, s.tool, r.status, r.completed_at, r.duration_ms, r.error_kind, r.error
      FROM workflow_step_results r JOIN workflow_steps s ON s.id = r.step_id JOIN workflow_executions e ON e.id = r.execution_id
     WHERE r.completed_at >= p_from AND r.completed_at < p_until AND r.completed_at >= e.created_at
  ), attempts AS (
    SELECT v.execution_id, s.step_name, s.tool, v.created_at AS at, v.event,
           f.id IS NULL AS again  -- else the step ended with it
      FROM workflow_events v JOIN workflow_steps s ON s.id = v.step_id
      LEFT JOIN ended f ON f.id = v.step_id AND f.attempt = v.attempt AND f.status = 'failed'
     WHERE v.created_at >= p_from AND v.created_at < p_until AND v.event IN ('attempt_failed', 'attempt_lost')
  ), outcomes AS (
    SELECT execution_id, step_name, tool, at, status AS outcome, duration_ms, error_kind, error FROM ended
     UNION ALL
    SELECT execution_id, step_name, tool, at, 'retried', NULL, NULL, NULL FROM attempts WHERE again
     UNION ALL
    SELECT execution_id, step_name, tool, at, 'lost', NULL, NULL, NULL FROM attempts WHERE event = 'attempt_lost'
  ), named AS MATERIALIZED (
    SELECT coalesce(d.name, '') AS workflow, bucket_of(300, o.at) AS bucket, o.execution_id, o.step_name AS step,
           coalesce(o.tool, '') AS tool, o.at, o.outcome, o.error_kind, o.error,
           CASE WHEN o.outcome IN ('completed', 'failed') THEN coalesce(o.duration_ms, 0) ELSE 0 END AS ms
      FROM outcomes o JOIN workflow_executions e ON e.id = o.execution_id
      LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
     WHERE p_workflows IS NULL OR coalesce(d.name, '') = ANY (p_workflows)
  ), counted AS (
    SELECT n.bucket, n.workflow, n.step, n.tool, n.outcome, duration_bin(n.ms) AS bin, count(*) AS endings, sum(n.ms) AS duration_ms
      FROM named n GROUP BY 1, 2, 3, 4, 5, 6
  ), steps AS (
    INSERT INTO step_rollups AS r (seconds, bucket, workflow, step, tool, outcome, bin, endings, duration_ms)
    SELECT l.seconds, bucket_of(l.seconds, c.bucket), c.workflow, c.step, c.tool, c.outcome, c.bin, sum(c.endings), sum(c.duration_ms)
      FROM counted c, (VALUES (300), (3600), (86400)) l(seconds) GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (seconds, bucket, workflow, step, tool, outcome, bin) DO UPDATE
       SET endings = r.endings + EXCLUDED.endings, duration_ms = r.duration_ms + EXCLUDED.duration_ms
  ), shaped AS (
    SELECT n.bucket, n.workflow, coalesce(n.error_kind, '') AS kind, n.tool, error_shape(n.error) AS shape, n.at, n.execution_id
      FROM named n WHERE n.outcome = 'failed'
  ), kinds AS (
    SELECT s.bucket, s.workflow, s.kind, s.tool, s.shape, count(*) AS failures, min(s.at) AS first_at, max(s.at) AS last_at,
           (array_agg(s.execution_id ORDER BY s.at DESC))[1] AS example
      FROM shaped s GROUP BY 1, 2, 3, 4, 5
  ), failures AS MATERIALIZED (  -- texts without end make no table without end
    SELECT k.*, CASE WHEN row_number() OVER (PARTITION BY k.bucket ORDER BY k.failures DESC, k.shape) > 50 THEN 'other'
                     ELSE md5(concat_ws(E'\n', k.kind, k.tool, k.shape)) END AS fingerprint
      FROM kinds k
  ), shapes AS (
    INSERT INTO error_shapes AS x (fingerprint, kind, tool, shape, first_seen, last_seen, example)
    SELECT f.fingerprint, CASE WHEN f.fingerprint = 'other' THEN 'other' ELSE min(f.kind) END,
           CASE WHEN f.fingerprint = 'other' THEN '' ELSE min(f.tool) END,
           CASE WHEN f.fingerprint = 'other' THEN '' ELSE min(f.shape) END,
           min(f.first_at), max(f.last_at), (array_agg(f.example ORDER BY f.last_at DESC))[1]
      FROM failures f GROUP BY 1 ORDER BY 1
    ON CONFLICT (fingerprint) DO UPDATE
       SET first_seen = least(x.first_seen, EXCLUDED.first_seen), last_seen = greatest(x.last_seen, EXCLUDED.last_seen),
           example = CASE WHEN EXCLUDED.last_seen >= x.last_seen THEN EXCLUDED.example ELSE x.example END)
  INSERT INTO error_rollups AS r (seconds, bucket, workflow, fingerprint, failures)
  SELECT l.seconds, bucket_of(l.seconds, f.bucket), f.workflow, f.fingerprint, sum(f.failures)
    FROM failures f, (VALUES (300), (3600), (86400)) l(seconds) GROUP BY 1, 2, 3, 4
  ON CONFLICT (seconds, bucket, workflow, fingerprint) DO UPDATE SET failures = r.failures + EXCLUDED.failures;
END $$;

-- Counts what ended since the last time, up to p_seconds of it, in buckets that are closed: p_lag_seconds past, and no transaction
-- under way that began before. Answers until when all is counted, whether that is as far as can be now, and whether it moved;
-- nothing where another is at it. Prevents: an end that is counted twice, or not, because somebody who counted died.
CREATE FUNCTION roll_up(p_lag_seconds DOUBLE PRECISION, p_seconds INTEGER)
RETURNS TABLE (rolled_until TIMESTAMPTZ, done BOOLEAN, moved BOOLEAN) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  counted TIMESTAMPTZ;
  closed  TIMESTAMPTZ := bucket_of(300, now() - p_lag_seconds * interval '1 second');
  first   TIMESTAMPTZ;
  next    TIMESTAMPTZ;
BEGIN
  IF NOT EXISTS (SELECT FROM rollup_progress) THEN  -- begins with what is there, at most the longest window that is shown
    INSERT INTO rollup_progress (rolled_until)
    SELECT bucket_of(86400, greatest(least(min(e.created_at), now()), now() - interval '90 days')) FROM workflow_executions e
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT p.rolled_until, false, false FROM rollup_progress p;  -- committed before anybody holds it for long
    RETURN;
  END IF;
  SELECT p.rolled_until INTO counted FROM rollup_progress p FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN; END IF;
  first := bucket_of(300, least(  -- where long nothing ended, nothing is read
    closed, (SELECT min(s.completed_at) FROM workflow_steps s WHERE s.completed_at >= counted),
    (SELECT min(e.completed_at) FROM workflow_executions e WHERE e.completed_at >= counted),
    (SELECT min(v.created_at) FROM workflow_events v WHERE v.created_at >= counted),
    (SELECT min(r.completed_at) FROM workflow_step_results r WHERE r.completed_at >= counted)));
  next := least(closed, first + p_seconds * interval '1 second');
  IF next <= counted OR EXISTS (SELECT FROM pg_stat_activity a
                                 WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL AND a.xact_start < next
                                   AND a.pid <> pg_backend_pid()) THEN
    RETURN QUERY SELECT counted, true, false;
    RETURN;
  END IF;

  PERFORM count_executions_ended(first, next, NULL);
  PERFORM count_steps_ended(first, next, NULL);
  UPDATE rollup_progress SET rolled_until = next;

  DELETE FROM execution_rollups r WHERE r.seconds = 300 AND r.bucket < next - interval '2 days';
  DELETE FROM execution_rollups r WHERE r.seconds = 3600 AND r.bucket < next - interval '15 days';
  DELETE FROM step_rollups r WHERE r.seconds = 300 AND r.bucket < next - interval '2 days';
  DELETE FROM step_rollups r WHERE r.seconds = 3600 AND r.bucket < next - interval '15 days';
  DELETE FROM error_rollups r WHERE r.seconds = 300 AND r.bucket < next - interval '2 days';
  DELETE FROM error_rollups r WHERE r.seconds = 3600 AND r.bucket < next - interval '15 days';
  DELETE FROM error_rollups r WHERE r.seconds = 86400 AND r.bucket < next - interval '400 days';
  DELETE FROM error_shapes x WHERE x.last_seen < next - interval '400 days';
  RETURN QUERY SELECT next, next = closed, true;
END $$;

-- Counts these workflows anew, from their rows: for made-up data, whose times were moved.
CREATE FUNCTION recount_workflows(p_workflows TEXT[]) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  counted TIMESTAMPTZ;
  oldest  TIMESTAMPTZ;
BEGIN
  SELECT p.rolled_until INTO counted FROM rollup_progress p FOR NO KEY UPDATE;
  DELETE FROM execution_rollups r WHERE r.workflow = ANY (p_workflows);
  DELETE FROM step_rollups r WHERE r.workflow = ANY (p_workflows);
  DELETE FROM error_rollups r WHERE r.workflow = ANY (p_workflows);
  DELETE FROM dear_executions d WHERE d.workflow = ANY (p_workflows);
  SELECT min(e.created_at) INTO oldest
    FROM workflow_executions e JOIN workflow_definitions d ON d.hash = e.definition_hash WHERE d.name = ANY (p_workflows);
  IF oldest < counted THEN
    PERFORM count_executions_ended(oldest, counted, p_workflows);
    PERFORM count_steps_ended(oldest, counted, p_workflows);
  END IF;
END $$;
