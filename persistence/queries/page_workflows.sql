-- One page of registered workflows by name: the newest version of each, how many versions there are, its hold, and its newest
-- runs, of its ten newest versions. `runs`: [{id, status, title, started_at}], newest first.
WITH RECURSIVE names AS (
  (SELECT w.name FROM workflows w
    WHERE (%(after)s::text IS NULL OR w.name > %(after)s) AND (%(text)s::text IS NULL OR w.name ILIKE %(text)s)
    ORDER BY w.name LIMIT 1)
  UNION ALL
  SELECT (SELECT w.name FROM workflows w
           WHERE w.name > n.name AND (%(text)s::text IS NULL OR w.name ILIKE %(text)s) ORDER BY w.name LIMIT 1)
    FROM names n WHERE n.name IS NOT NULL
)
SELECT n.name, v.version, v.enabled, v.description, v.created_at, v.definition_hash, h.actor AS held_by, h.reason AS held_for,
       h.created_at AS held_at, r.runs
  FROM (SELECT name FROM names WHERE name IS NOT NULL LIMIT %(limit)s::integer) n
 CROSS JOIN LATERAL (SELECT w.version, w.enabled, w.description, w.created_at, w.definition_hash FROM workflows w
                      WHERE w.name = n.name ORDER BY w.version DESC LIMIT 1) v
  LEFT JOIN holds h ON h.kind = 'workflow' AND h.name = n.name
 CROSS JOIN LATERAL (
   SELECT coalesce(json_agg(json_build_object('id', newest.id, 'status', newest.status, 'title', newest.title)
                            ORDER BY newest.created_at DESC, newest.id DESC), '[]') AS runs
     FROM (SELECT e.* FROM (SELECT id FROM workflows w WHERE w.name = n.name ORDER BY w.version DESC LIMIT 10) w
            CROSS JOIN LATERAL (SELECT e.id, e.status, e.title, e.created_at FROM workflow_executions e
                                 WHERE e.workflow_id = w.id ORDER BY e.created_at DESC, e.id DESC
                                 LIMIT %(runs)s::integer) e
            ORDER BY e.created_at DESC, e.id DESC LIMIT %(runs)s::integer) newest) r
 ORDER BY n.name
