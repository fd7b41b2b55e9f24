-- Steps that ended in these spans of buckets, by step (of a workflow), tool or server, outcome and class of duration. The most
-- busy ones, or those that take longest on average.
WITH found AS MATERIALIZED (
  SELECT CASE WHEN %(by)s::text = 'step' THEN r.workflow ELSE '' END AS workflow,
         CASE %(by)s::text WHEN 'tool' THEN r.tool WHEN 'server' THEN split_part(r.tool, '.', 1) ELSE r.step END AS name,
         r.outcome, r.bin, sum(r.endings)::bigint AS endings, sum(r.duration_ms)::bigint AS duration_ms
    FROM unnest(%(seconds)s::integer[], %(sinces)s::timestamptz[], %(untils)s::timestamptz[]) c(seconds, since, until),
         LATERAL (SELECT * FROM step_rollups x WHERE x.seconds = c.seconds AND x.bucket >= c.since AND x.bucket < c.until
                   OFFSET 0) r  -- by index, span by span: a join would read the whole table
   WHERE %(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text
   GROUP BY 1, 2, 3, 4
), first AS (
  SELECT workflow, name,
         CASE WHEN %(slowest)s::boolean
              THEN sum(duration_ms) FILTER (WHERE outcome = 'completed') / sum(endings) FILTER (WHERE outcome = 'completed')
              ELSE sum(endings) FILTER (WHERE outcome IN ('completed', 'failed', 'skipped')) END AS rank
    FROM found GROUP BY 1, 2 ORDER BY rank DESC NULLS LAST, 1, 2 LIMIT %(limit)s::integer)
SELECT f.* FROM found f JOIN first USING (workflow, name)
