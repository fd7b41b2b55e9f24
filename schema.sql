-- AFU-9: every table and every transition of a workflow execution.
--
-- How it works. PostgreSQL is the ledger: an execution and all of its steps are rows, written before anybody is told.
-- Redis only rings: a message holds ids, and a lost, doubled or late one changes nothing. A step is taken by claim_steps
-- and left by complete_steps, charge_step or release_step, each one statement and one transaction. Where a sequence goes on,
-- complete_steps takes the next step in the same transaction, for the worker that goes on with it.
--
-- The fence. Every claim raises `attempt`, and every write of a worker names the attempt it holds. A worker that comes
-- back late (paused, partitioned, declared dead) changes no row and learns it from the answer.
--
-- The outbox is the step row. A runnable step is pending with needs_left = 0 and a dispatch_after; whoever made it
-- runnable pushes its message after the commit, and dispatch_steps pushes it again when dispatch_after has passed. The
-- same column is the retry timer. A step whose worker falls silent is charged by reap_steps.
--
-- Flat cost. A middle step reads and writes its own row, its successors and the steps whose variables it names; the
-- execution row is written when it starts and when it comes to rest.
--
-- Clocks: now() of this database, nothing else.

-- ------------------------------------------------------------------------------------------------ tables

CREATE TABLE workflow_definitions (
  hash        TEXT PRIMARY KEY CHECK (hash ~ '^[0-9a-f]{64}$'),  -- SHA-256 of the canonical definition
  definition  JSON NOT NULL,                                     -- as the user wrote it, key order kept
  plan        JSONB NOT NULL,                                    -- one object per step: what submit_executions inserts
  created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
  name        TEXT GENERATED ALWAYS AS (definition ->> 'name') STORED  -- read without the rest, which may be long
);

CREATE TABLE workflows (
  id               UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  name             VARCHAR(255) NOT NULL,
  version          INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1),
  definition_hash  TEXT NOT NULL REFERENCES workflow_definitions(hash),
  description      TEXT,
  enabled          BOOLEAN NOT NULL DEFAULT true,
  created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
  UNIQUE (name, version)
);

-- status: pending -> running -> completed | failed | cancelled;  running <-> paused;  completed | failed | cancelled -> running
-- (retry, rerun)
CREATE TABLE workflow_executions (
  id                UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  workflow_id       UUID REFERENCES workflows(id),
  status            VARCHAR(50) NOT NULL
                    CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'paused')),
  input             JSONB,
  output            JSONB,
  context           JSONB,                        -- the initial context; whole, with variables, once at rest
  started_at        TIMESTAMPTZ DEFAULT now(),
  completed_at      TIMESTAMPTZ,
  error             TEXT,
  triggered_by      VARCHAR(255),
  github_run_id     VARCHAR(255),
  created_at        TIMESTAMPTZ DEFAULT now(),
  updated_at        TIMESTAMPTZ DEFAULT now(),
  definition_hash   TEXT REFERENCES workflow_definitions(hash),
  title             TEXT,
  idempotency_key   TEXT,
  continue_on_error BOOLEAN NOT NULL DEFAULT false,
  leaves_left       INTEGER NOT NULL DEFAULT 0 CHECK (leaves_left >= 0),  -- unfinished steps without successors
  deadline_at       TIMESTAMPTZ,                                          -- config.timeoutMs after the start
  labels            JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),  -- names to texts
  request_hash      TEXT,                         -- SHA-256 of the request that the idempotency key came with
  paused_at         TIMESTAMPTZ,
  forked_from       UUID,                         -- the execution that it was made from; may be gone
  max_cost_nanos    BIGINT CHECK (max_cost_nanos > 0),  -- config.maxCost, in nano-dollars (1e-9 USD) as all costs
  cost_nanos        BIGINT,                       -- what its steps cost: null if none has a price
  unpriced_calls    INTEGER                       -- both are written at rest; null here: a step still ran, compose them
) WITH (fillfactor = 85);

CREATE INDEX idx_executions_status ON workflow_executions (status);
CREATE INDEX idx_executions_started_at ON workflow_executions (started_at DESC);
CREATE UNIQUE INDEX idx_executions_idempotency_key ON workflow_executions (idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX idx_executions_deadline ON workflow_executions (deadline_at)
  WHERE deadline_at IS NOT NULL AND status = 'running';
CREATE INDEX idx_executions_completed ON workflow_executions (completed_at) WHERE completed_at IS NOT NULL;  -- what ended in a time
-- Listings: newest first, each filter with an order of its own, so that a page costs the same at any depth.
CREATE INDEX idx_executions_created ON workflow_executions (created_at DESC, id DESC);
CREATE INDEX idx_executions_status_created ON workflow_executions (status, created_at DESC, id DESC);
CREATE INDEX idx_executions_workflow_created ON workflow_executions (workflow_id, created_at DESC, id DESC)
  WHERE workflow_id IS NOT NULL;
CREATE INDEX idx_executions_triggered_created ON workflow_executions (triggered_by, created_at DESC, id DESC)
  WHERE triggered_by IS NOT NULL;
CREATE INDEX idx_executions_forked_from ON workflow_executions (forked_from) WHERE forked_from IS NOT NULL;
CREATE INDEX idx_executions_labels ON workflow_executions USING gin (labels jsonb_path_ops) WHERE labels <> '{}';

-- status: pending -> running -> completed | failed | skipped;  running -> pending (charged or released);  completed | failed |
-- skipped -> pending (a person runs it again)
CREATE TABLE workflow_steps (
  id              UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  execution_id    UUID REFERENCES workflow_executions(id) ON DELETE CASCADE,
  step_name       VARCHAR(255) NOT NULL,
  step_index      INTEGER NOT NULL,
  status          VARCHAR(50) NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'skipped')),
  input           JSONB,                                   -- the params as they were sent
  output          JSONB,
  started_at      TIMESTAMPTZ,                             -- of the first attempt
  completed_at    TIMESTAMPTZ,
  duration_ms     INTEGER,                                 -- from started_at to completed_at
  error           TEXT,
  retry_count     INTEGER DEFAULT 0 CHECK (retry_count >= 0),
  created_at      TIMESTAMPTZ DEFAULT now(),
  updated_at      TIMESTAMPTZ DEFAULT now(),
  tool            TEXT,
  assign          TEXT,
  successors      INTEGER[] NOT NULL DEFAULT '{}',         -- step_index of the steps that wait for this one
  variable_steps  INTEGER[] NOT NULL DEFAULT '{}',         -- step_index of the steps whose output this one reads
  context_keys    TEXT[] NOT NULL DEFAULT '{}',            -- the rest that it reads: input, repo, ...
  max_retries     INTEGER NOT NULL DEFAULT 0 CHECK (max_retries >= 0),
  timeout_ms      INTEGER,
  idempotent      BOOLEAN,                                 -- what the definition says of calling the tool twice
  needs_left      INTEGER NOT NULL DEFAULT 0 CHECK (needs_left >= 0),
  attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),   -- the fence: claims so far
  next_run_at     TIMESTAMPTZ,                             -- not to be claimed before
  dispatch_after  TIMESTAMPTZ,                             -- to be pushed (again) from then on
  dispatch_count  INTEGER NOT NULL DEFAULT 0,              -- pushes by dispatch_steps for this attempt
  worker_id       UUID,
  claimed_at      TIMESTAMPTZ,                             -- start of the newest attempt
  deadline_at     TIMESTAMPTZ,                             -- end of the newest attempt, grace included
  lost_count      INTEGER NOT NULL DEFAULT 0 CHECK (lost_count >= 0),
  released_count  INTEGER NOT NULL DEFAULT 0 CHECK (released_count >= 0),
  error_kind      TEXT,
  override        JSONB CHECK (jsonb_typeof(override) = 'object'),  -- what a person wants of the next attempt: {input} | {output} | {skip}
  retries_before  INTEGER NOT NULL DEFAULT 0,              -- of retry_count - lost_count, when a person ran the step again
  lost_before     INTEGER NOT NULL DEFAULT 0,              -- of lost_count, likewise
  reused_from     UUID,                                    -- the step of another execution whose result this is
  cost_nanos      BIGINT CHECK (cost_nanos >= 0),          -- what its attempts cost, as far as their price is known
  unpriced_calls  INTEGER,                                 -- attempts that called a tool at a price nobody knows
  CHECK (status <> 'running' OR dispatch_after IS NULL)    -- a running step is never pushed
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX idx_steps_execution_id ON workflow_steps (execution_id, step_index);
CREATE INDEX idx_steps_dispatch ON workflow_steps (dispatch_after) WHERE dispatch_after IS NOT NULL;
CREATE INDEX idx_steps_undecided ON workflow_steps (execution_id DESC) WHERE error_kind = 'outcome_unknown';
CREATE INDEX idx_steps_running ON workflow_steps (worker_id) WHERE worker_id IS NOT NULL;
-- Those are the running steps. By status the planner would also use it to find one running step by its id, and read it whole.
CREATE INDEX idx_steps_completed ON workflow_steps (completed_at) WHERE completed_at IS NOT NULL;

-- A worker process and its lease: silent for longer than the lease, it is taken for dead.
CREATE TABLE workers (
  id            UUID PRIMARY KEY,
  role          TEXT NOT NULL,          -- worker, or engine for an execution in the caller's own process
  hostname      TEXT NOT NULL,
  pid           INTEGER NOT NULL,
  threads       INTEGER NOT NULL,
  started_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
  heartbeat_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- What the rows alone cannot tell: each failed or lost attempt, and what operators did. Nothing on the happy path.
CREATE TABLE workflow_events (
  id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  execution_id  UUID NOT NULL REFERENCES workflow_executions(id) ON DELETE CASCADE,
  step_id       UUID,
  attempt       INTEGER,
  event         TEXT NOT NULL CHECK (event IN ('attempt_failed', 'attempt_lost', 'attempt_released', 'control')),
  kind          TEXT,
  message       TEXT,
  actor         TEXT,
  started_at    TIMESTAMPTZ,
  created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
  detail        JSONB                   -- of a control: what it was before, and what was wanted
);

CREATE INDEX idx_events_execution_id ON workflow_events (execution_id, id);
CREATE INDEX idx_events_created ON workflow_events (created_at);

-- Results that a person had run again: nothing is ever erased.
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
  control       BIGINT NOT NULL,        -- the event that replaced it
  replaced_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX idx_step_results_execution_id ON workflow_step_results (execution_id, id);
CREATE INDEX idx_step_results_completed ON workflow_step_results (completed_at) WHERE completed_at IS NOT NULL;

-- What is not to be called for now: new steps of a workflow, a server or a tool wait.
CREATE TABLE holds (
  kind        TEXT NOT NULL CHECK (kind IN ('workflow', 'server', 'tool')),
  name        TEXT NOT NULL,
  actor       TEXT NOT NULL,
  reason      TEXT,
  created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, name)
);

-- A control of many executions, worked off by the orchestrators. status: pending -> running -> completed; or, as long as there
-- is something left to do, -> cancelled
CREATE TABLE control_jobs (
  id             UUID PRIMARY KEY,
  action         TEXT NOT NULL CHECK (action IN ('pause', 'resume', 'cancel', 'retry')),
  ids            UUID[],                  -- the executions; or
  filter         JSONB,                   -- what they have in common, as select_executions.sql takes it
  actor          TEXT NOT NULL,
  reason         TEXT,
  status         TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'completed', 'cancelled')),
  total          INTEGER,                 -- of executions when it was made; null: more than were counted
  done           INTEGER NOT NULL DEFAULT 0,
  refused        INTEGER NOT NULL DEFAULT 0,
  failed         INTEGER NOT NULL DEFAULT 0,  -- those of the refused whose control met an error, again and again
  errors         JSONB NOT NULL DEFAULT '[]', -- of the first hundred of them: [{execution_id, error}]
  tried_id       UUID,                    -- the execution whose control met an error, and how often so far
  tries          INTEGER NOT NULL DEFAULT 0,
  cancelled_by   TEXT,
  cancel_reason  TEXT,
  cursor_at      TIMESTAMPTZ,             -- created_at and id of the execution that was the last so far, newest first
  cursor_id      UUID,
  claimed_until  TIMESTAMPTZ,             -- nobody else takes it before
  created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
  CHECK ((ids IS NULL) <> (filter IS NULL))
);

CREATE INDEX idx_jobs_open ON control_jobs (updated_at) WHERE status IN ('pending', 'running');
CREATE INDEX idx_jobs_created ON control_jobs (created_at DESC, id DESC);

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
CREATE INDEX idx_audit_principal ON audit_log (principal, id DESC);
CREATE INDEX idx_audit_action ON audit_log (action, id DESC);
CREATE INDEX idx_audit_target ON audit_log (target, id DESC) WHERE target IS NOT NULL;

-- The tool catalogue: what each MCP server said of itself. Workers write it, validation and recovery read it.
CREATE TABLE mcp_servers (
  name                TEXT PRIMARY KEY CHECK (name ~ '^[a-z0-9_-]+$'),
  era                 TEXT,                    -- protocol version, jsonrpc or in-process
  repeat_unannotated  BOOLEAN NOT NULL,        -- whether tools without annotations may be called twice
  error               TEXT,                    -- why the newest look failed
  looked_at           TIMESTAMPTZ NOT NULL DEFAULT now(),
  fetched_at          TIMESTAMPTZ              -- of the tools below
);

CREATE TABLE mcp_tools (
  server         TEXT NOT NULL REFERENCES mcp_servers(name) ON DELETE CASCADE,
  tool           TEXT NOT NULL,
  description    TEXT,
  input_schema   JSONB,
  output_schema  JSONB,
  annotations    JSONB,
  repeatable     BOOLEAN NOT NULL,             -- whether a call with an unknown outcome may be made again
  hash           TEXT NOT NULL,                -- SHA-256 of the schemas and annotations
  fetched_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
  changed_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (server, tool)
);

-- The schemas that tools have had: a row when a tool is first seen, and whenever its hash is another. Append-only, and kept
-- when a tool is gone: executions are compared by what was in force when their steps ran.
CREATE TABLE mcp_tool_versions (
  server         TEXT NOT NULL,
  tool           TEXT NOT NULL,
  hash           TEXT NOT NULL,
  input_schema   JSONB,
  output_schema  JSONB,
  annotations    JSONB,
  seen_at        TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),  -- callers of store_tools wait for each other before
  PRIMARY KEY (server, tool, seen_at)
);

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

-- ------------------------------------------------------------------------------------------------ reading state

-- Whether a tool ('server.tool') may be called again when nobody knows if it ran. Null: the catalogue does not say.
CREATE FUNCTION tool_repeatable(p_tool TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT t.repeatable FROM mcp_tools t
                    WHERE t.server = split_part(p_tool, '.', 1) AND t.tool = substr(p_tool, strpos(p_tool, '.') + 1)),
                  (SELECT s.repeat_unannotated FROM mcp_servers s WHERE s.name = split_part(p_tool, '.', 1)))
$$;

-- Whether somebody has stopped new calls of a tool, of its server, or for its execution's workflow.
CREATE FUNCTION is_held(p_tool TEXT, p_execution UUID) RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM holds h WHERE h.kind = 'tool' AND h.name = p_tool
                    OR h.kind = 'server' AND h.name = split_part(p_tool, '.', 1)
                    OR h.kind = 'workflow' AND h.name = (
                       SELECT d.definition ->> 'name' FROM workflow_executions e
                         JOIN workflow_definitions d ON d.hash = e.definition_hash WHERE e.id = p_execution))
$$;

-- A UUID that sorts by time (RFC 9562, version 7), for PostgreSQL versions without uuidv7().
CREATE FUNCTION time_ordered_uuid() RETURNS UUID LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
           PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
           FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- Every variable assigned so far: the initial ones, then the outputs of completed steps.
CREATE FUNCTION execution_variables(p_execution UUID) RETURNS JSONB LANGUAGE sql STABLE AS $$
  SELECT coalesce(e.context -> 'variables', '{}') || coalesce(
           (SELECT jsonb_object_agg(s.assign, s.output) FROM workflow_steps s
             WHERE s.execution_id = e.id AND s.assign IS NOT NULL AND s.status = 'completed'), '{}')
    FROM workflow_executions e WHERE e.id = p_execution
$$;

-- The whole context as a step would see it: initial context, input and variables.
CREATE FUNCTION execution_context(p_execution UUID) RETURNS JSONB LANGUAGE sql STABLE AS $$
  SELECT coalesce(e.context, '{}') || jsonb_build_object('input', coalesce(e.input, '{}'),
                                                         'variables', execution_variables(e.id))
    FROM workflow_executions e WHERE e.id = p_execution
$$;

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

-- ------------------------------------------------------------------------------------------------ transitions

-- - -> running, all steps pending. Prevents: an execution without its steps, and a second one for an idempotency key.
-- p_requests: [{id, input, context, title, triggered_by, github_run_id, idempotency_key, request_hash, labels}], any number.
-- Answers one row per request in order; ready_steps are the roots, at attempt 0.
-- A step's id is time-ordered like the others: the milliseconds, 52 bits of its execution's id hashed, 20 bits of its index.
CREATE FUNCTION submit_executions(p_hash TEXT, p_requests JSONB, p_workflow UUID DEFAULT NULL)
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
CREATE FUNCTION finish_execution(p_execution UUID, p_status TEXT, p_error TEXT)
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

-- How the execution stands, for a transition that writes a step by it. Where it does not run, only after whoever changes that
-- has committed. Prevents: a step that became runnable while its execution was paused, and that resume did not see.
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

-- Counts a finished step down on its successors and makes those that wait for nothing else runnable; after the last
-- leaf, brings the execution to rest. Called by the transitions below, in their transaction.
CREATE FUNCTION advance_execution(p_execution UUID, p_successors INTEGER[],
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

-- running -> pending, uncharged: a worker that stops hands its step back. Prevents: a deployment that uses up retries.
CREATE FUNCTION release_step(p_step UUID, p_attempt INTEGER, p_reason TEXT,
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

-- ------------------------------------------------------------------------------------------------ controls

-- Each answers whether it was done and how the execution stands: a control that comes too late, or twice, changes nothing.
-- All lock the execution's row first. What they replace is kept, and each leaves an event with who and why.

CREATE FUNCTION note_control(p_execution UUID, p_action TEXT, p_actor TEXT, p_reason TEXT, p_detail JSONB)
RETURNS BIGINT LANGUAGE sql AS $$
  INSERT INTO workflow_events (execution_id, event, kind, message, actor, detail)
  VALUES (p_execution, 'control', p_action, p_reason, p_actor, p_detail) RETURNING id
$$;

-- Makes the runnable steps of a running execution due; answers those to push now.
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

-- Counts anew what each pending step waits for, and the unfinished leaves.
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

-- running -> paused. What runs may end; nothing is claimed.
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

-- paused -> running, or completed if the last step has ended meanwhile. The time of the pause does not count against timeoutMs.
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

-- running | paused -> cancelled. Workers are told of their running steps by their leases.
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

-- completed | failed | cancelled -> running, with some steps to run again; in a paused execution they wait for its resumption, in
-- a running one only the overrides of pending steps change. p_overrides: {step_index: override}. p_expected: the status
-- that the caller saw; another one, or one of the steps running, and nothing is done. Results that are replaced are kept.
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

-- - -> running: a new execution beside p_source, which stays as it is. p_reused: [{index, source, output}], the steps whose
-- results are taken over from steps of p_source (an output that is given replaces theirs). p_request: as of submit_executions.
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

-- Calls may be made again; answers how many waiting steps that makes due, none if nothing was held.
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

-- pending | running -> running: a job for this caller, who alone works on it for a while. The one that waits longest.
CREATE FUNCTION claim_job(p_lease_seconds DOUBLE PRECISION) RETURNS SETOF control_jobs LANGUAGE sql AS $$
  UPDATE control_jobs j
     SET status = 'running', claimed_until = now() + p_lease_seconds * interval '1 second', updated_at = now()
   WHERE j.id = (SELECT o.id FROM control_jobs o
                  WHERE o.status IN ('pending', 'running') AND (o.claimed_until IS NULL OR o.claimed_until < now())
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

-- running -> completed, or free for the next one who comes.
CREATE FUNCTION leave_job(p_job UUID, p_completed BOOLEAN) RETURNS VOID LANGUAGE sql AS $$
  UPDATE control_jobs j
     SET status = CASE WHEN p_completed THEN 'completed' ELSE j.status END, claimed_until = NULL, updated_at = now()
   WHERE j.id = p_job AND j.status = 'running'
$$;

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

-- ------------------------------------------------------------------------------------------------ cost

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
           FROM jsonb_each(b.reserved) x, LATERAL (
                SELECT FROM workflow_steps s WHERE s.id = x.key::uuid AND s.status = 'running' OFFSET 0) s  -- looked up by id
          WHERE x.key <> p_step::text) r
   WHERE b.execution_id = execution;
  admitted := coalesce(spent_nanos < max_nanos AND spent_nanos + p_nanos <= max_nanos, true);
  UPDATE execution_budgets b
     SET reserved = others || CASE WHEN admitted THEN jsonb_build_object(p_step, p_nanos) ELSE '{}' END
   WHERE b.execution_id = execution;
END $$;

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

-- ------------------------------------------------------------------------------------------------ archive

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

-- ------------------------------------------------------------------------------------------------ recovery

-- Steps whose message is due: never pushed, pushed and not taken, or a retry whose delay is over. Each is pushed again
-- after 10 s, 30 s, 90 s, ... at most 5 min. Prevents: a runnable step that nobody hears of. Any number may call it at once.
CREATE FUNCTION dispatch_steps(p_limit INTEGER)
RETURNS TABLE (step_id UUID, attempt INTEGER, dispatch_count INTEGER) LANGUAGE sql AS $$
  WITH due AS (
    SELECT s.id FROM workflow_steps s WHERE s.dispatch_after <= now()
     ORDER BY s.dispatch_after LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
  ), pushed AS (
    UPDATE workflow_steps s
       SET dispatch_count = s.dispatch_count + 1,
           dispatch_after = CASE WHEN e.status NOT IN ('completed', 'failed', 'cancelled')
             THEN now() + least(10 * 3 ^ least(s.dispatch_count, 4), 300) * interval '1 second' END
      FROM due, workflow_executions e WHERE s.id = due.id AND e.id = s.execution_id
    RETURNING s.id, s.attempt, s.dispatch_count, e.status)
  SELECT p.id, p.attempt, p.dispatch_count FROM pushed p WHERE p.status = 'running'
$$;

-- Steps for a worker that hears no messages: what is due, and what nobody has pushed yet. Charges their dispatch_after as
-- dispatch_steps does, so that no two workers are handed the same step. Any number may call it at once.
CREATE FUNCTION take_steps(p_limit INTEGER) RETURNS TABLE (step_id UUID, attempt INTEGER) LANGUAGE sql AS $$
  WITH due AS (
    SELECT s.id FROM workflow_steps s
     WHERE s.dispatch_after <= now() OR (s.dispatch_after IS NOT NULL AND s.dispatch_count = 0 AND s.next_run_at <= now())
     ORDER BY s.dispatch_after LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED)
  UPDATE workflow_steps s
     SET dispatch_count = s.dispatch_count + 1,
         dispatch_after = now() + least(10 * 3 ^ least(s.dispatch_count, 4), 300) * interval '1 second'
    FROM due WHERE s.id = due.id
  RETURNING s.id, s.attempt
$$;

-- Makes every waiting step due: Redis came back, perhaps without its messages. A second push of one it kept is refused.
-- Answers how many; to be called until that is less than p_limit.
CREATE FUNCTION redispatch_steps(p_limit INTEGER) RETURNS BIGINT LANGUAGE sql AS $$
  WITH waiting AS (
    SELECT s.id FROM workflow_steps s WHERE s.dispatch_after > now() AND s.next_run_at <= now()
     LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
  ), due AS (
    UPDATE workflow_steps s SET dispatch_after = now(), dispatch_count = 0 FROM waiting WHERE s.id = waiting.id RETURNING 1)
  SELECT count(*) FROM due
$$;

-- Seconds until the next message is due; null when none is.
CREATE FUNCTION next_dispatch() RETURNS DOUBLE PRECISION LANGUAGE sql STABLE AS $$
  SELECT extract(epoch FROM min(s.dispatch_after) - now()) FROM workflow_steps s WHERE s.dispatch_after IS NOT NULL
$$;

-- Charges the running steps of silent workers and those past their deadline. Prevents: a step that runs for ever in
-- nobody's hands. Any number may call it at once.
CREATE FUNCTION reap_steps(p_silence_seconds DOUBLE PRECISION, p_max_lost INTEGER, p_limit INTEGER)
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

-- Executions past config.timeoutMs: running -> failed.
CREATE FUNCTION expire_executions(p_limit INTEGER)
RETURNS TABLE (execution_id UUID) LANGUAGE sql AS $$
  WITH late AS (
    SELECT e.id, e.deadline_at - e.started_at AS allowed FROM workflow_executions e
     WHERE e.deadline_at < now() AND e.status = 'running' LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED)
  SELECT l.id FROM late l
   WHERE finish_execution(l.id, 'failed', format('the execution ran longer than its timeoutMs of %s',
                                                 round(extract(epoch FROM l.allowed) * 1000)))
$$;

-- Renews a worker's lease, making it if need be, and names the running steps whose execution has been stopped.
CREATE FUNCTION renew_lease(p_worker UUID, p_role TEXT, p_hostname TEXT, p_pid INTEGER, p_threads INTEGER)
RETURNS UUID[] LANGUAGE sql AS $$
  INSERT INTO workers (id, role, hostname, pid, threads) VALUES (p_worker, p_role, p_hostname, p_pid, p_threads)
  ON CONFLICT (id) DO UPDATE SET heartbeat_at = now();
  SELECT coalesce(array_agg(s.id), '{}') FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
   WHERE s.worker_id = p_worker AND s.status = 'running'
     AND (e.status = 'cancelled' OR (e.status = 'failed' AND e.deadline_at < now()))
$$;

-- Takes the refresh of a server's tools for this caller, once per p_ttl_seconds. Prevents: a fleet that all asks at once.
CREATE FUNCTION claim_refresh(p_server TEXT, p_repeat_unannotated BOOLEAN, p_ttl_seconds DOUBLE PRECISION)
RETURNS BOOLEAN LANGUAGE sql AS $$
  INSERT INTO mcp_servers AS s (name, repeat_unannotated) VALUES (p_server, p_repeat_unannotated)
  ON CONFLICT (name) DO UPDATE SET looked_at = now(), repeat_unannotated = p_repeat_unannotated
   WHERE s.looked_at <= now() - CASE WHEN s.fetched_at IS NULL AND s.error IS NULL  -- whoever looked has not come back
                                     THEN least(p_ttl_seconds, 10) ELSE p_ttl_seconds END * interval '1 second';
  SELECT s.looked_at = now() FROM mcp_servers s WHERE s.name = p_server
$$;

-- Replaces a server's tools by what it listed now, adding to their history; answers those whose schema or annotations are
-- not what they were.
-- p_tools: [{tool, description, input_schema, output_schema, annotations, repeatable, hash}]
CREATE FUNCTION store_tools(p_server TEXT, p_era TEXT, p_tools JSONB)
RETURNS TABLE (tool TEXT, change TEXT) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  UPDATE mcp_servers s SET era = p_era, error = NULL, fetched_at = now() WHERE s.name = p_server;
  RETURN QUERY
  WITH listed AS (
    SELECT l.* FROM jsonb_to_recordset(p_tools) l(tool TEXT, description TEXT, input_schema JSONB, output_schema JSONB,
                                                 annotations JSONB, repeatable BOOLEAN, hash TEXT)
  ), gone AS (
    DELETE FROM mcp_tools t WHERE t.server = p_server AND t.tool NOT IN (SELECT l.tool FROM listed l) RETURNING t.tool
  ), before AS (
    SELECT t.tool, t.hash FROM mcp_tools t WHERE t.server = p_server
  ), written AS (
    INSERT INTO mcp_tools AS t (server, tool, description, input_schema, output_schema, annotations, repeatable, hash)
    SELECT p_server, l.tool, l.description, l.input_schema, l.output_schema, l.annotations, l.repeatable, l.hash FROM listed l
    ON CONFLICT (server, tool) DO UPDATE
       SET description = EXCLUDED.description, input_schema = EXCLUDED.input_schema, output_schema = EXCLUDED.output_schema,
           annotations = EXCLUDED.annotations, repeatable = EXCLUDED.repeatable, hash = EXCLUDED.hash, fetched_at = now(),
           changed_at = CASE WHEN t.hash = EXCLUDED.hash THEN t.changed_at ELSE now() END
    RETURNING t.tool, t.hash
  ), kept AS (
    INSERT INTO mcp_tool_versions (server, tool, hash, input_schema, output_schema, annotations)
    SELECT p_server, l.tool, l.hash, l.input_schema, l.output_schema, l.annotations FROM listed l
     WHERE l.hash IS DISTINCT FROM (SELECT v.hash FROM mcp_tool_versions v WHERE v.server = p_server AND v.tool = l.tool
                                     ORDER BY v.seen_at DESC LIMIT 1))
  SELECT w.tool, CASE WHEN b.tool IS NULL THEN 'added' ELSE 'changed' END
    FROM written w LEFT JOIN before b ON b.tool = w.tool WHERE b.hash IS DISTINCT FROM w.hash
   UNION ALL
  SELECT g.tool, 'removed' FROM gone g;
END $$;

-- Removes the leases of silent workers that hold nothing, and names them, so that their unread messages can go back.
CREATE FUNCTION bury_workers(p_silence_seconds DOUBLE PRECISION) RETURNS TABLE (worker_id UUID) LANGUAGE sql AS $$
  DELETE FROM workers w
   WHERE w.heartbeat_at < now() - p_silence_seconds * interval '1 second'
     AND NOT EXISTS (SELECT FROM workflow_steps s WHERE s.worker_id = w.id AND s.status = 'running')
  RETURNING w.id
$$;
