-- The newest completed execution of the same workflow that was created before this one: by the workflow's name, in any
-- version, or without a name by the same definition. No row if there is no such execution as `id`.
SELECT b.id, (
         SELECT e.id FROM workflow_executions e
          WHERE e.status = 'completed' AND (e.created_at, e.id) < (b.created_at, b.id)
            AND e.definition_hash = ANY (ARRAY(
                  SELECT d.hash FROM workflow_definitions d, workflow_definitions mine
                   WHERE mine.hash = b.definition_hash
                     AND (d.hash = mine.hash OR d.definition ->> 'name' = mine.definition ->> 'name')))
          ORDER BY e.created_at DESC, e.id DESC
          LIMIT 1) AS previous_id
  FROM workflow_executions b
 WHERE b.id = %(id)s
