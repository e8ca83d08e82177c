-- KEYS: the list of sessions. ARGV: a session. Puts it behind all others, if it is not there.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
redis.call('ZADD', KEYS[1], (tonumber(last[2]) or 0) + 1, ARGV[1])
