-- Keeps records, all or none. KEYS: the count of places; of each namespace that is touched its records, keys and places.
-- ARGV: of each record which of those namespaces it is of, its key, the digest that it replaces, its own, and what is kept of it.
-- Returns 0 if all were kept or were there already; 1 if also a namespace was empty before; the key of the first that has another state.
local fresh = 0
for i = 1, #ARGV, 5 do
  local there = redis.call('HGET', KEYS[3 * ARGV[i] - 1], ARGV[i + 1])
  there = there and string.sub(there, 1, 32) or ''
  if there ~= ARGV[i + 2] and there ~= ARGV[i + 3] then return ARGV[i + 1] end
end
redis.call('PERSIST', KEYS[1])
for i = 1, #ARGV, 5 do
  local records, keys, places = KEYS[3 * ARGV[i] - 1], KEYS[3 * ARGV[i]], KEYS[3 * ARGV[i] + 1]
  local there = redis.call('HGET', records, ARGV[i + 1])
  if not there or string.sub(there, 1, 32) ~= ARGV[i + 3] then
    if redis.call('EXISTS', places) == 0 then fresh = 1 end
    redis.call('HSET', records, ARGV[i + 1], ARGV[i + 4])
    redis.call('ZADD', keys, 0, ARGV[i + 1])
    redis.call('ZADD', places, redis.call('INCR', KEYS[1]), ARGV[i + 1])
  else
    -- Nothing to write; but only what is written is waited for, and the try that wrote it may not have waited long enough.
    redis.call('HSET', records, ARGV[i + 1], there)
  end
end
return fresh
