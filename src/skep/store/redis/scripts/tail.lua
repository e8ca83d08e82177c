-- KEYS: head, log. Returns epoch, seq, hash, seal, claim and mark of the head, and the last two appends, the newer one first.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'hash', 'seal', 'claim', 'mark')
if not head[1] then return false end
return {head, redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 2)}
