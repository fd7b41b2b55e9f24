-- Executions that are made later are not meant.
INSERT INTO control_jobs AS j (id, action, ids, filter, actor, reason, total)
VALUES (%(id)s::uuid, %(action)s, %(ids)s::uuid[],
        %(filter)s::jsonb || jsonb_build_object('until', least((%(filter)s::jsonb ->> 'until')::timestamptz, now())),
        %(actor)s, %(reason)s, %(total)s::integer)
ON CONFLICT (id) DO UPDATE SET updated_at = j.updated_at
RETURNING j.*
