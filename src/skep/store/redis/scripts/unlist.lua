-- KEYS: the list of blobs. ARGV: a digest, a time. Takes the blob off the list unless it was put again since.
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
if at and tonumber(at) < tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end
