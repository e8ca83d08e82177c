-- KEYS: the count of places of a namespace, its records, keys and places. ARGV: for how long the count is kept, ms.
-- The count goes on when the namespace is used again: an index may know it still.
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
return 1
