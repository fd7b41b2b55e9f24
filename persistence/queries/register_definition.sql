INSERT INTO workflow_definitions (hash, definition, plan)
VALUES (%(hash)s, %(definition)s::json, %(plan)s::jsonb)
ON CONFLICT (hash) DO NOTHING
