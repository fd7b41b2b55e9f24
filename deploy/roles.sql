-- Least privilege: who may do what in AFU-9's database. To be run by the owner of the schema, after `afu9 migrate`:
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -v app_login=afu9_worker -v reader_login=grafana -f deploy/roles.sql
--
-- afu9_app is for orchestrators, workers, the API and the command line; afu9_reader for dashboards and analysts; afu9_starter
-- for services that start workflows from SQL (GRANT afu9_starter TO shop). All are groups:
-- a login role that exists gets its rights by membership, app_login and reader_login grant it (both may be left out).
-- Safe to run again, and to be run again after a login role was granted by hand: settings are not inherited from a group,
-- so they are set on every member. PostgreSQL 15 or newer; the owner needs CREATEROLE, or the two groups made for it.

\if :{?app_login}
\else
  \set app_login ''
\endif
\if :{?reader_login}
\else
  \set reader_login ''
\endif

BEGIN;
SELECT set_config('afu9.app_login', :'app_login', true), set_config('afu9.reader_login', :'reader_login', true) \g /dev/null

-- The groups, and whom they are granted to.
DO $$
DECLARE
  grp TEXT;
BEGIN
  FOREACH grp IN ARRAY ARRAY['afu9_app', 'afu9_reader', 'afu9_starter'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grp) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', grp);
    END IF;
  END LOOP;
  IF current_setting('afu9.app_login') <> '' THEN
    EXECUTE format('GRANT afu9_app TO %I', current_setting('afu9.app_login'));
  END IF;
  IF current_setting('afu9.reader_login') <> '' THEN
    EXECUTE format('GRANT afu9_reader TO %I', current_setting('afu9.reader_login'));
  END IF;
  EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO afu9_app, afu9_reader, afu9_starter', current_database());
END $$;

-- Nobody but the owner makes or drops anything.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM afu9_app, afu9_reader, afu9_starter;
GRANT USAGE ON SCHEMA public TO afu9_app, afu9_reader, afu9_starter;

-- Tables: rows, no TRUNCATE, no trigger, no reference. Begun anew, so that what an older version granted is gone.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, afu9_app, afu9_reader, afu9_starter;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO afu9_app;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO afu9_reader;
REVOKE SELECT ON api_keys FROM afu9_reader;
REVOKE INSERT, UPDATE, DELETE ON afu9_migrations FROM afu9_app;    -- the owner's
REVOKE UPDATE, DELETE ON workflow_events FROM afu9_app;            -- append-only; leaves with its execution
REVOKE UPDATE, DELETE ON workflow_step_results FROM afu9_app;      -- append-only, likewise
REVOKE UPDATE, DELETE ON audit_log FROM afu9_app;                  -- append-only
REVOKE UPDATE, DELETE ON workflow_definitions FROM afu9_app;       -- immutable: its hash is its name
REVOKE UPDATE, DELETE ON mcp_tool_versions FROM afu9_app;          -- append-only

-- Functions run with the caller's rights, so a reader who may call one can still write nothing. The one exception is
-- afu9_start_workflow: whoever is in afu9_starter may start workflows with it, and nothing else.
DO $$
DECLARE
  ours RECORD;
BEGIN
  FOR ours IN
    SELECT p.oid::regprocedure AS signature, p.proname AS name, p.provolatile <> 'v' AS reads FROM pg_proc p
     WHERE p.pronamespace = 'public'::regnamespace
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')  -- an extension's are not ours
  LOOP
    EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC, afu9_app, afu9_reader, afu9_starter', ours.signature);
    EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO afu9_app', ours.signature);
    IF ours.reads THEN
      EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO afu9_reader', ours.signature);
    END IF;
    IF ours.name = 'afu9_start_workflow' THEN
      EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO afu9_starter', ours.signature);
    END IF;
  END LOOP;
END $$;

-- What later migrations make, by whoever owns the schema's tables.
DO $$
DECLARE
  owner TEXT := (SELECT tableowner FROM pg_tables WHERE schemaname = 'public' AND tablename = 'workflow_executions');
BEGIN
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public
                  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO afu9_app', owner);
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT SELECT ON TABLES TO afu9_reader', owner);
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO afu9_app', owner);
END $$;

-- No member waits or holds on without end. A client may ask for other limits of its own.
DO $$
DECLARE
  member RECORD;
BEGIN
  FOR member IN
    SELECT m.rolname AS name, g.rolname = 'afu9_reader' AS reader
      FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
     WHERE g.rolname IN ('afu9_app', 'afu9_reader') AND m.rolcanlogin AND NOT m.rolsuper AND m.rolname <> current_user
     ORDER BY reader DESC  -- who is in both groups works
  LOOP
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET statement_timeout = %L', member.name, current_database(),
                   CASE WHEN member.reader THEN '15s' ELSE '30s' END);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET idle_in_transaction_session_timeout = ''30s''', member.name, current_database());
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET lock_timeout = %L', member.name, current_database(),
                   CASE WHEN member.reader THEN '2s' ELSE '10s' END);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET default_transaction_read_only = %L', member.name, current_database(),
                   CASE WHEN member.reader THEN 'on' ELSE 'off' END);
  END LOOP;
END $$;
COMMIT;
