-- KEYS: a blob. ARGV: a time. Removes the blob if it was put before it. Returns how many were removed; -1: it is younger.
local at = redis.call('HGET', KEYS[1], 'at')
if at and tonumber(at) >= tonumber(ARGV[1]) then return -1 end
return redis.call('UNLINK', KEYS[1])
