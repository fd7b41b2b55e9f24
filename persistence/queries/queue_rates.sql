-- Of the last minute, each counted up to a limit: the steps of executions that were started, and the steps that ended.
SELECT (SELECT coalesce(sum(n.executions * jsonb_array_length(d.plan)), 0)::bigint
          FROM (SELECT e.definition_hash, count(*) AS executions
                  FROM (SELECT x.definition_hash FROM workflow_executions x
                         WHERE x.created_at > now() - interval '1 minute' LIMIT %(limit)s::integer) e GROUP BY 1) n
          JOIN workflow_definitions d ON d.hash = n.definition_hash) AS steps_in,
       (SELECT count(*) FROM (SELECT FROM workflow_steps s
                               WHERE s.completed_at > now() - interval '1 minute' LIMIT %(limit)s::integer) o) AS steps_out
