-- KEYS: nodes by when they said something, what they said. ARGV: a node, what it says, for how long it is there after that, and for
-- how long it is remembered, ms. The server's own time counts. Returns what all say that are there: node, words, ...
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[4], 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[1], node)
  redis.call('HDEL', KEYS[2], node)
end
local found = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[3], '+inf', 'LIMIT', 0, 10000)) do
  found[#found + 1] = node
  found[#found + 1] = redis.call('HGET', KEYS[2], node) or ''
end
return found
