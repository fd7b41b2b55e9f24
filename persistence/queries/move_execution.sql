-- For made-up data: an execution as if it had begun at another time and had taken `stretch` times as long.
WITH was AS (SELECT id, created_at AS zero FROM workflow_executions WHERE id = %(id)s),
     executions AS (
       UPDATE workflow_executions e
          SET created_at = %(start)s::timestamptz, started_at = %(start)s::timestamptz + (e.started_at - w.zero) * %(stretch)s::double precision,
              completed_at = %(start)s::timestamptz + (e.completed_at - w.zero) * %(stretch)s::double precision,
              paused_at = %(start)s::timestamptz + (e.paused_at - w.zero) * %(stretch)s::double precision,
              updated_at = %(start)s::timestamptz + (e.updated_at - w.zero) * %(stretch)s::double precision
         FROM was w WHERE e.id = w.id),
     events AS (
       UPDATE workflow_events v
          SET created_at = %(start)s::timestamptz + (v.created_at - w.zero) * %(stretch)s::double precision,
              started_at = %(start)s::timestamptz + (v.started_at - w.zero) * %(stretch)s::double precision,
              detail = CASE WHEN v.detail ? 'completed_at' THEN v.detail || jsonb_build_object('completed_at',
                %(start)s::timestamptz + ((v.detail ->> 'completed_at')::timestamptz - w.zero) * %(stretch)s::double precision)
                ELSE v.detail END
         FROM was w WHERE v.execution_id = w.id),
     results AS (
       UPDATE workflow_step_results r
          SET started_at = %(start)s::timestamptz + (r.started_at - w.zero) * %(stretch)s::double precision,
              completed_at = %(start)s::timestamptz + (r.completed_at - w.zero) * %(stretch)s::double precision,
              replaced_at = %(start)s::timestamptz + (r.replaced_at - w.zero) * %(stretch)s::double precision,
              duration_ms = r.duration_ms * %(stretch)s::double precision
         FROM was w WHERE r.execution_id = w.id)
UPDATE workflow_steps s
   SET created_at = %(start)s::timestamptz, started_at = %(start)s::timestamptz + (s.started_at - w.zero) * %(stretch)s::double precision,
       completed_at = %(start)s::timestamptz + (s.completed_at - w.zero) * %(stretch)s::double precision,
       claimed_at = %(start)s::timestamptz + (s.claimed_at - w.zero) * %(stretch)s::double precision,
       updated_at = %(start)s::timestamptz + (s.updated_at - w.zero) * %(stretch)s::double precision,
       duration_ms = extract(epoch FROM (s.completed_at - s.started_at)) * 1000 * %(stretch)s::double precision
  FROM was w WHERE s.execution_id = w.id
