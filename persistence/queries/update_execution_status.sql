UPDATE workflow_executions
   SET status = %(status)s::text, output = %(output)s::jsonb, error = %(error)s, updated_at = now(),
       completed_at = CASE WHEN %(status)s::text IN ('completed', 'failed', 'cancelled') THEN now() ELSE completed_at END
 WHERE id = %(id)s
RETURNING id
