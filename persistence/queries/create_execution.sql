INSERT INTO workflow_executions (id, workflow_id, status, input, context, triggered_by, github_run_id)
VALUES (%(id)s, %(workflow_id)s, 'running', %(input)s::jsonb, %(context)s::jsonb, %(triggered_by)s, %(github_run_id)s)
RETURNING id
