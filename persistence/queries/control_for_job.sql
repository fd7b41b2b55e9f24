-- control_for_job
SELECT recorded, done, ready_steps, ready_attempts,
       (SELECT d.name FROM workflow_executions e JOIN workflow_definitions d ON d.hash = e.definition_hash
         WHERE e.id = %(execution_id)s::uuid) AS workflow
  FROM control_for_job(%(job)s::uuid, %(execution_id)s::uuid, %(created_at)s::timestamptz, %(lease)s)
