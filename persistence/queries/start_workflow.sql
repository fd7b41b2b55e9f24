SELECT afu9_start_workflow(%(name)s, %(input)s::jsonb, %(idempotency_key)s, triggered_by => %(triggered_by)s) AS id
