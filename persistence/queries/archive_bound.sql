-- Until when executions have ended that may go into files: so long ago, and what the rollups have counted.
SELECT least(now() - %(seconds)s::double precision * interval '1 second', rolled_until) AS older_than, rolled_until
  FROM rollup_progress
