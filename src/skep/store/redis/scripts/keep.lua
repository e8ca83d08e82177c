-- KEYS: head, snapshots, a draft, its place. ARGV: its event, seal, size, signature. Puts it into its place, whole.
-- Returns 0 without such a session.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
-- Without the draft this is done again, as the reply was lost.
if redis.call('EXISTS', KEYS[3]) == 0 then return 1 end
redis.call('RENAME', KEYS[3], KEYS[4])
redis.call('PERSIST', KEYS[4])
redis.call('HSET', KEYS[4], 'seal', ARGV[2], 'size', ARGV[3], 'sign', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[1])
return 1
