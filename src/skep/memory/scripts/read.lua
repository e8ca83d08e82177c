-- KEYS: the records of a namespace, and one that says that somebody asked. ARGV: a key. Returns what is kept of it.
-- Writes something, as only what is written is waited for: whoever is not the primary any more is to find out.
redis.call('SET', KEYS[2], 1)
return redis.call('HGET', KEYS[1], ARGV[1])
