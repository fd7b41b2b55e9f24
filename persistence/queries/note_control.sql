SELECT note_control(%(execution_id)s::uuid, %(action)s, %(actor)s, %(reason)s, %(detail)s::jsonb) AS id
