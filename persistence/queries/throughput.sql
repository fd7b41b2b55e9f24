-- How many executions of each workflow ended in these spans, by bars of so many seconds; of the most busy workflows.
WITH found AS MATERIALIZED (
  SELECT r.workflow, bucket_of(%(bar)s::integer, r.bucket) AS bar, sum(r.endings)::bigint AS endings,
         (sum(r.endings) FILTER (WHERE r.status = 'failed'))::bigint AS failed
    FROM unnest(%(seconds)s::integer[], %(sinces)s::timestamptz[], %(untils)s::timestamptz[]) c(seconds, since, until),
         LATERAL (SELECT * FROM execution_rollups x WHERE x.seconds = c.seconds AND x.bucket >= c.since AND x.bucket < c.until
                   OFFSET 0) r  -- by index, span by span: a join would read the whole table
   WHERE %(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text
   GROUP BY 1, 2)
SELECT f.* FROM found f
  JOIN (SELECT workflow FROM found GROUP BY 1 ORDER BY sum(endings) DESC, 1 LIMIT %(limit)s::integer) b USING (workflow)
 ORDER BY f.workflow, f.bar
