SELECT w.id, w.name, w.version, w.enabled, w.description, w.definition_hash, w.created_at, w.updated_at,
       d.definition::text AS definition
  FROM workflows w JOIN workflow_definitions d ON d.hash = w.definition_hash
 WHERE w.name = %(name)s AND (%(version)s::integer IS NULL OR w.version = %(version)s)
 ORDER BY w.version DESC
 LIMIT 1
