-- Behind letters.lua and log.lua. The replicas have the log up to an append: all may read and hear it, and the answers are left.
-- KEYS: head, log, pending, senders, answers of each sender that may have one waiting. ARGV: the append's last event and its hash.
-- Returns 0 if the log has no such append (any more), 1 if all is done; else the senders that must be among KEYS too: their
-- answers go on waiting, since a script may only touch keys that it was given.
local seq = tonumber(ARGV[1])
local mark = tonumber(redis.call('HGET', KEYS[1], 'mark') or 0)
local function fields(row)
  local said = {}
  for i = 1, #row[2], 2 do said[row[2][i]] = row[2][i + 1] end
  return said
end
if seq > 0 then
  local row = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
  if not row or fields(row).hash ~= ARGV[2] then return 0 end
end
local from = string.format('%.0f-0', mark + 1)
while mark < seq do
  local row = redis.call('XRANGE', KEYS[2], from, ARGV[1], 'COUNT', 1)[1]
  if not row then break end
  local said = fields(row)
  push(tag .. 'log', said.first, string.match(row[1], '^%d+'), said.epoch, said.batch, said.hash, said.sign or '', said.blob)
  from = '(' .. row[1]
end
if mark < seq then redis.call('HSET', KEYS[1], 'mark', ARGV[1]) end
local given, asked, missing, answers = {}, {}, {}, {}
for i = 5, #KEYS do given[KEYS[i]] = true end
local pending = redis.call('LRANGE', KEYS[3], 0, -1)
for i = 1, #pending - 3, 4 do
  if tonumber(pending[i]) > seq then break end
  local sender = pending[i + 1]
  if not given[tag .. 'answers:' .. sender] and not asked[sender] then
    asked[sender] = true
    missing[#missing + 1] = sender
  end
  for k = i + 1, i + 3 do answers[#answers + 1] = pending[k] end
end
if #missing > 0 then return missing end
if #answers > 0 then redis.call('LTRIM', KEYS[3], #answers / 3 * 4, -1) end
leave(answers)
return 1
