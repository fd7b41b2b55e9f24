-- Appends messages to a queue, each id once, wakes idle consumers, and tells watchers what changed.
-- KEYS: queue list, message hash, wake list.  ARGV: force (0 or 1), hints channel, hint ('' for none), then id, body, ...
-- A known id is refused: its message waits already. With force it is appended again unless the list holds it, for an id
-- whose message was fetched by a consumer that died; a list too long to search is left alone, its turn will come.
local pushed = 0
local force = ARGV[1] == '1' and redis.call('llen', KEYS[1]) < 1000
for i = 4, #ARGV, 2 do
  local new = redis.call('hsetnx', KEYS[2], ARGV[i], ARGV[i + 1]) == 1
  if new or (force and not redis.call('lpos', KEYS[1], ARGV[i])) then
    redis.call('rpush', KEYS[1], ARGV[i])
    pushed = pushed + 1
  end
end
for _ = 1, math.min(pushed, 16) do
  redis.call('rpush', KEYS[3], '1')
end
if pushed > 0 then
  redis.call('ltrim', KEYS[3], -16, -1)
  redis.call('expire', KEYS[3], 60)
end
if ARGV[3] ~= '' then
  redis.call('publish', ARGV[2], ARGV[3])
end
return pushed
