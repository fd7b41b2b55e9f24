-- Errors of the steps that failed in these spans of buckets, by shape: the most frequent ones.
SELECT x.fingerprint, x.kind, x.tool, x.shape, x.first_seen, x.last_seen, x.example, f.failures, f.workflows,
       (SELECT e.status FROM workflow_executions e WHERE e.id = x.example) AS example_status
  FROM (SELECT r.fingerprint, sum(r.failures)::bigint AS failures, (array_agg(DISTINCT r.workflow))[1:5] AS workflows
          FROM unnest(%(seconds)s::integer[], %(sinces)s::timestamptz[], %(untils)s::timestamptz[]) c(seconds, since, until),
               LATERAL (SELECT * FROM error_rollups x WHERE x.seconds = c.seconds AND x.bucket >= c.since AND x.bucket < c.until
                         OFFSET 0) r  -- by index, span by span: a join would read the whole table
         WHERE %(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text
         GROUP BY 1) f
  JOIN error_shapes x USING (fingerprint)
 WHERE %(kind)s::text IS NULL OR x.kind = %(kind)s::text
 ORDER BY f.failures DESC, x.last_seen DESC, x.fingerprint LIMIT %(limit)s::integer
