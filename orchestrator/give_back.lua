-- Gives the messages that a dead consumer had fetched back to their queue.
-- KEYS: its acks set, queue list, message hash, wake list, heartbeats.  ARGV: its broker id.
local returned = 0
for _, id in ipairs(redis.call('smembers', KEYS[1])) do
  if redis.call('hexists', KEYS[3], id) == 1 then
    redis.call('rpush', KEYS[2], id)
    redis.call('rpush', KEYS[4], '1')
    returned = returned + 1
  end
end
redis.call('del', KEYS[1])
redis.call('zrem', KEYS[5], ARGV[1])
redis.call('ltrim', KEYS[4], -16, -1)
redis.call('expire', KEYS[4], 60)
return returned
