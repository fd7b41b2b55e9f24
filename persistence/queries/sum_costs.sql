-- What was spent on so many UTC days, today included, by day, workflow, server or tool.
SELECT c.name, sum(c.calls)::bigint AS calls, sum(c.unpriced_calls)::bigint AS unpriced_calls,
       sum(c.cost_nanos)::bigint AS cost_nanos
  FROM (SELECT CASE %(by)s::text WHEN 'day' THEN d.day::text WHEN 'server' THEN d.server
                                 WHEN 'tool' THEN d.server || '.' || d.tool ELSE d.workflow END AS name,
               d.calls, d.unpriced_calls, d.cost_nanos
          FROM cost_days d WHERE d.day > (now() AT TIME ZONE 'UTC')::date - %(days)s::integer) c
 GROUP BY c.name
 ORDER BY CASE WHEN %(by)s::text = 'day' THEN c.name END DESC, sum(c.cost_nanos) DESC, sum(c.unpriced_calls) DESC, c.name
