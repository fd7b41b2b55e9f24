-- The newest definitions that call one of these tools ('server.tool').
SELECT d.hash, d.definition::text AS definition
  FROM workflow_definitions d
 WHERE EXISTS (SELECT FROM jsonb_array_elements(d.plan) p WHERE p ->> 'tool' = ANY (%(tools)s::text[]))
 ORDER BY d.created_at DESC
 LIMIT 200
