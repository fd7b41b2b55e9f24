-- One page of the audit log, newest first. Each parameter that may be null has an index.
SELECT a.id, a.created_at, a.principal, a.action, a.target, a.detail
  FROM audit_log a
 WHERE (%(principal)s::text IS NULL OR a.principal = %(principal)s)
   AND (%(action)s::text IS NULL OR a.action = %(action)s)
   AND (%(target)s::text IS NULL OR a.target = %(target)s)
   AND (%(before)s::bigint IS NULL OR a.id < %(before)s)
 ORDER BY a.id DESC
 LIMIT %(limit)s::integer
