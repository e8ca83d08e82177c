-- KEYS: head, log. ARGV: the first place that is wanted, most appends, bytes that are enough.
-- Returns epoch, seq, hash, seal and mark of the head; the append before; the page; 1 = it goes to the end. Nothing without a session.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'hash', 'seal', 'mark')
if not head[1] then return false end
local page, size, from, most = {}, 0, ARGV[1], tonumber(ARGV[2])
local before = redis.call('XREVRANGE', KEYS[2], '(' .. from, '-', 'COUNT', 1)
-- One by one, as each may be large.
while #page < most and size < tonumber(ARGV[3]) do
  local row = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 1)[1]
  if not row then return {head, before, page, 1} end
  page[#page + 1] = row
  for _, field in ipairs(row[2]) do size = size + #field end
  from = '(' .. row[1]
end
return {head, before, page, 0}
