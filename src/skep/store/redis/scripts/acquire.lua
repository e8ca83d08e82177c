-- Behind log.lua. KEYS: head. ARGV: epoch, seq, hash of the head; new epoch and seal; owner, claim; 1 = all is committed.
-- Returns 1: done, 0: the head is another.
if not known() then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[4], 'seal', ARGV[5], 'owner', ARGV[6], 'claim', ARGV[7])
if ARGV[8] == '1' then redis.call('HSET', KEYS[1], 'mark', ARGV[2]) end
return 1
