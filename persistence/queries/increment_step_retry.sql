UPDATE workflow_steps SET retry_count = retry_count + 1, attempt = attempt + 1, updated_at = now()
 WHERE id = %(id)s
RETURNING id
