-- In front of every script that changes a log. KEYS[1] is the session's head.

-- Whether the head is the one that the caller knows: its epoch, seq and hash are ARGV[1..3].
local function known()
  local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'hash')
  return head[1] == ARGV[1] and head[2] == ARGV[2] and head[3] == ARGV[3]
end

-- Tells listeners of a committed append; of a large one only that it is there.
local function push(channel, first, last, epoch, batch, hash, sign, blob)
  if #blob > 65536 then
    redis.call('PUBLISH', channel, '')
  else
    local rest = batch .. hash .. sign .. blob
    redis.call('PUBLISH', channel, first .. ' ' .. last .. ' ' .. epoch .. ' ' .. #sign .. ' ' .. #rest .. '\n' .. rest)
  end
end
