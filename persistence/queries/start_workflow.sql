-- start_workflow
-- `created`: there was no execution of this key before.
SELECT afu9_start_workflow(%(name)s, %(input)s::jsonb, %(idempotency_key)s, triggered_by => %(triggered_by)s) AS id,
       NOT EXISTS (SELECT FROM workflow_executions e WHERE e.idempotency_key = %(idempotency_key)s) AS created
