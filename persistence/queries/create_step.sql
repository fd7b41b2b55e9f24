INSERT INTO workflow_steps (id, execution_id, step_name, step_index, status, input, started_at, attempt)
VALUES (%(id)s, %(execution_id)s, %(step_name)s, %(step_index)s, 'running', %(input)s::jsonb, now(), 1)
RETURNING id
