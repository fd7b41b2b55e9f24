-- How many executions of each workflow ended in these spans, by bars of so many seconds; of the most busy workflows.
WITH found AS MATERIALIZED (
  SELECT r.workflow, bucket_of(%(bar)s::integer, r.bucket) AS bar, sum(r.endings)::bigint AS endings,
         (sum(r.endings) FILTER (WHERE r.status = 'failed'))::bigint AS failed
    FROM unnest(%(seconds)s::integer[], %(sinces)s::timestamptz[], %(untils)s::timestamptz[]) c(seconds, since, until)
    JOIN execution_rollups r ON r.seconds = c.seconds AND r.bucket >= c.since AND r.bucket < c.until
   WHERE %(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text
   GROUP BY 1, 2)
SELECT f.* FROM found f
  JOIN (SELECT workflow FROM found GROUP BY 1 ORDER BY sum(endings) DESC, 1 LIMIT %(limit)s::integer) b USING (workflow)
 ORDER BY f.workflow, f.bar
