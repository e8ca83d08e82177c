-- KEYS: head. ARGV: note. Returns 0 without such a session.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'note', ARGV[1])
return 1
