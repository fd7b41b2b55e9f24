SELECT current_setting('server_version') AS version, current_database() AS database,
       (SELECT count(*) FROM workers WHERE heartbeat_at > now() - interval '30 seconds') AS workers_alive
