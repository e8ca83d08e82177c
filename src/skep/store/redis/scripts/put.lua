-- Behind letters.lua. KEYS: head, inbox, senders, answers of the sender.
-- ARGV: sender, most letters, most answers unread, then number and body of each.
-- Returns the number of the sender's last letter and what became of each: 0 it is there, 1 one before it is missing, 2 the
-- inbox is full, 3 too much is unread; or nothing without such a session.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local sender = ARGV[1]
local last = tonumber(redis.call('HGET', KEYS[3], sender) or 0)
local room = tonumber(ARGV[2]) - redis.call('XLEN', KEYS[2])
local reads = redis.call('ZCARD', KEYS[4]) < tonumber(ARGV[3])
local became, pieces = {0}, {}
for i = 4, #ARGV, 2 do
  local number, body, how = tonumber(ARGV[i]), ARGV[i + 1], 0
  if number > last + 1 then
    how = 1
  elseif number == last + 1 and room < 1 then
    how = 2
  elseif number == last + 1 and not reads then
    how = 3
  elseif number == last + 1 then
    local place = redis.call('XADD', KEYS[2], '*', 's', sender, 'n', ARGV[i], 'b', body)
    pieces[#pieces + 1] = place .. ' ' .. sender .. ' ' .. ARGV[i] .. ' ' .. #body .. '\n' .. body
    last, room = number, room - 1
  end
  became[#became + 1] = how
end
-- Also when all was there before: who repeats a put waits for its replication, and only what is written is waited for.
if last > 0 then redis.call('HSET', KEYS[3], sender, string.format('%.0f', last)) end
tell(tag .. 'in', pieces)
became[1] = last
return became
