-- KEYS: the head of a stream, the stream. ARGV: a number, how many entries at most. Returns birth, last number, entries behind it.
local head = redis.call('HMGET', KEYS[1], 'birth', 'last')
if not head[1] then return {'', 0, {}} end
return {head[1], tonumber(head[2]), redis.call('XRANGE', KEYS[2], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])}
