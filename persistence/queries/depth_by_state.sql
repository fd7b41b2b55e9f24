-- depth_by_state
-- Steps that wait for a worker: ready, delayed (until a retry), or held by somebody; and the seconds that the oldest of each has
-- been ready. Of a long queue only the first `limit` in the order of dispatch are looked at.
SELECT w.state, count(*) AS steps,
       greatest(extract(epoch FROM now() - min(w.next_run_at)), 0)::double precision AS oldest
  FROM (SELECT s.next_run_at,
               CASE WHEN s.next_run_at > now() THEN 'delayed'
                    WHEN (SELECT count(*) FROM holds) > 0 AND is_held(s.tool, s.execution_id) THEN 'held'
                    ELSE 'ready' END AS state
          FROM (SELECT q.next_run_at, q.tool, q.execution_id FROM workflow_steps q
                 WHERE q.dispatch_after IS NOT NULL ORDER BY q.dispatch_after LIMIT %(limit)s::integer) s) w
 GROUP BY w.state
