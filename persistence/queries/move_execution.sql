-- For made-up data: an execution as if it had begun at another time and had taken `stretch` times as long.
WITH was AS (SELECT id, created_at AS zero FROM workflow_executions WHERE id = %(id)s),
     executions AS (
       UPDATE workflow_executions e
          SET created_at = %(start)s, started_at = %(start)s + (e.started_at - w.zero) * %(stretch)s,
              completed_at = %(start)s + (e.completed_at - w.zero) * %(stretch)s,
              paused_at = %(start)s + (e.paused_at - w.zero) * %(stretch)s,
              updated_at = %(start)s + (e.updated_at - w.zero) * %(stretch)s
         FROM was w WHERE e.id = w.id),
     events AS (
       UPDATE workflow_events v
          SET created_at = %(start)s + (v.created_at - w.zero) * %(stretch)s,
              started_at = %(start)s + (v.started_at - w.zero) * %(stretch)s
         FROM was w WHERE v.execution_id = w.id),
     results AS (
       UPDATE workflow_step_results r
          SET started_at = %(start)s + (r.started_at - w.zero) * %(stretch)s,
              completed_at = %(start)s + (r.completed_at - w.zero) * %(stretch)s,
              replaced_at = %(start)s + (r.replaced_at - w.zero) * %(stretch)s,
              duration_ms = r.duration_ms * %(stretch)s
         FROM was w WHERE r.execution_id = w.id)
UPDATE workflow_steps s
   SET created_at = %(start)s, started_at = %(start)s + (s.started_at - w.zero) * %(stretch)s,
       completed_at = %(start)s + (s.completed_at - w.zero) * %(stretch)s,
       claimed_at = %(start)s + (s.claimed_at - w.zero) * %(stretch)s,
       updated_at = %(start)s + (s.updated_at - w.zero) * %(stretch)s,
       duration_ms = extract(epoch FROM (s.completed_at - s.started_at)) * 1000 * %(stretch)s
  FROM was w WHERE s.execution_id = w.id
