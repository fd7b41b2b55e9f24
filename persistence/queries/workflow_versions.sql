-- A workflow's versions, newest first, without their definitions.
SELECT id, version, enabled, description, definition_hash, created_at
  FROM workflows WHERE name = %(name)s ORDER BY version DESC LIMIT %(limit)s::integer
