UPDATE workflow_executions SET context = %(context)s::jsonb, updated_at = now() WHERE id = %(id)s RETURNING id
