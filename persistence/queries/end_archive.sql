UPDATE workflow_archives SET finished_at = now() WHERE id = %(id)s AND finished_at IS NULL
