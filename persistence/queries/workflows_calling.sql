-- Which registered workflows call each of these tools ('server.tool') in their newest version: of the first workflows by name.
WITH RECURSIVE names AS (
  (SELECT w.name, 1 AS place FROM workflows w ORDER BY w.name LIMIT 1)
  UNION ALL
  SELECT (SELECT w.name FROM workflows w WHERE w.name > n.name ORDER BY w.name LIMIT 1), n.place + 1
    FROM names n WHERE n.name IS NOT NULL AND n.place < %(workflows)s::integer
)
SELECT called.tool, array_agg(n.name ORDER BY n.name) AS workflows
  FROM names n
 CROSS JOIN LATERAL (SELECT w.definition_hash FROM workflows w WHERE w.name = n.name ORDER BY w.version DESC LIMIT 1) v
  JOIN workflow_definitions d ON d.hash = v.definition_hash
 CROSS JOIN LATERAL (SELECT DISTINCT p ->> 'tool' AS tool FROM jsonb_array_elements(d.plan) p
                      WHERE p ->> 'tool' = ANY (%(tools)s::text[])) called
 WHERE n.name IS NOT NULL
 GROUP BY called.tool
