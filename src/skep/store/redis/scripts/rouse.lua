-- KEYS: the list of sessions that do not rest, that of all. ARGV: a session. Puts it on the first one, and returns as the how many-th.
-- A store of before has no such list: then nobody rests. Its member without a name counts, so that an empty list is there, too.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[2], 'WEIGHTS', 0)
  redis.call('ZADD', KEYS[1], 0, '')
end
local count = redis.call('ZINCRBY', KEYS[1], 1, '')
redis.call('ZADD', KEYS[1], count, ARGV[1])
return count
