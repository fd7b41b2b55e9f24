-- Executions that ended in these spans of buckets, by workflow or by time (bars of so many seconds), status and class of
-- duration. Workflows beyond the most busy ones are one: null.
WITH found AS MATERIALIZED (
  SELECT CASE WHEN %(by)s::text = 'time' THEN '' ELSE r.workflow END AS workflow,
         CASE WHEN %(by)s::text = 'time' THEN bucket_of(%(bar)s::integer, r.bucket) END AS bar, r.status, r.bin,
         sum(r.endings)::bigint AS endings, sum(r.duration_ms)::bigint AS duration_ms
    FROM unnest(%(seconds)s::integer[], %(sinces)s::timestamptz[], %(untils)s::timestamptz[]) c(seconds, since, until),
         LATERAL (SELECT * FROM execution_rollups x WHERE x.seconds = c.seconds AND x.bucket >= c.since AND x.bucket < c.until
                   OFFSET 0) r  -- by index, span by span: a join would read the whole table
   WHERE %(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text
   GROUP BY 1, 2, 3, 4
), busy AS (SELECT workflow FROM found GROUP BY 1 ORDER BY sum(endings) DESC, 1 LIMIT %(limit)s::integer)
SELECT b.workflow, f.bar, f.status AS outcome, f.bin, sum(f.endings)::bigint AS endings, sum(f.duration_ms)::bigint AS duration_ms
  FROM found f LEFT JOIN busy b USING (workflow)
 GROUP BY 1, 2, 3, 4
