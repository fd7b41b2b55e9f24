-- Makes the login role :app_login, or gives it a new password, which is in the file that the variable APP_PASSWORD_FILE names.
-- To be run by the owner before roles.sql, which grants it its rights:
--
--   APP_PASSWORD_FILE=… psql "$OWNER_URL" -v ON_ERROR_STOP=1 -v app_login=afu9_fleet -f deploy/login.sql -f deploy/roles.sql
\set password `cat "$APP_PASSWORD_FILE"`
SELECT format('CREATE ROLE %I LOGIN', :'app_login')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'app_login') \gexec
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', :'app_login', :'password') \gexec
