-- Behind log.lua. KEYS: head. ARGV: its epoch, seq and hash. Writes something, as only what is written is waited for.
-- Returns 0 if the head is another.
if not known() then return 0 end
redis.call('HSET', KEYS[1], 'touched', ARGV[2])
return 1
