UPDATE workflow_steps
   SET status = %(status)s::text, output = %(output)s::jsonb, error = %(error)s, duration_ms = %(duration_ms)s,
       updated_at = now(),
       completed_at = CASE WHEN %(status)s::text IN ('completed', 'failed', 'skipped') THEN now() ELSE completed_at END
 WHERE id = %(id)s
RETURNING id
