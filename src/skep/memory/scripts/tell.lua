-- KEYS: the head of a stream, the stream. ARGV: a body, the birth of the stream if it is new, how many bytes it may hold, a channel.
-- Entries are numbered without gaps; the oldest go when there are too many bytes. Returns birth and number.
local birth = redis.call('HGET', KEYS[1], 'birth')
if not birth then
  birth = ARGV[2]
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'birth', birth, 'last', 0, 'bytes', 0)
end
local number = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('XADD', KEYS[2], number .. '-0', 'body', ARGV[1])
local bytes = redis.call('HINCRBY', KEYS[1], 'bytes', #ARGV[1])
while bytes > tonumber(ARGV[3]) do
  local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  if not first or first[1] == number .. '-0' then break end
  redis.call('XDEL', KEYS[2], first[1])
  bytes = redis.call('HINCRBY', KEYS[1], 'bytes', -#first[2][2])
end
redis.call('PUBLISH', ARGV[4], 'told')
return {birth, number}
