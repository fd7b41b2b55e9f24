-- Columns of a table in their order.
SELECT a.attname AS name, a.atttypid = 'jsonb'::regtype AS is_json
  FROM pg_attribute a WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 ORDER BY a.attnum
