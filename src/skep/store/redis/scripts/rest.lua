-- KEYS: the list of sessions that do not rest. ARGV: a session, as the how many-th it was put there. Takes it off, unless it was
-- put there again since.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end
