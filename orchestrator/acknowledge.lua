-- Forgets messages that are done. KEYS: the consumer's acks set, message hash.  ARGV: ids.
-- An id that the consumer does not hold any more was given back meanwhile: its message stays.
for _, id in ipairs(ARGV) do
  if redis.call('srem', KEYS[1], id) == 1 then
    redis.call('hdel', KEYS[2], id)
  end
end
