SELECT DISTINCT ON (w.name) w.id, w.name, w.version, w.enabled, w.description, w.definition_hash, w.created_at, w.updated_at
  FROM workflows w
 WHERE %(after)s::text IS NULL OR w.name > %(after)s
 ORDER BY w.name, w.version DESC
 LIMIT %(limit)s::integer
