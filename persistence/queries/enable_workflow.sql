UPDATE workflows SET enabled = %(enabled)s, updated_at = now() WHERE name = %(name)s RETURNING id
