-- Behind letters.lua. KEYS: head, inbox, then senders and answers of each, or pending if the answers wait.
-- ARGV: epoch; 1 = it is committed with this, else commit.lua is to follow; place, sender, number and answer of each letter.
-- Returns the epoch that writes, and seq and hash of the head; nothing without such a session.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'hash')
if not head[1] then return false end
if head[1] == ARGV[1] and head[1] ~= '0' then
  local found = there(3)
  if ARGV[2] == '1' then
    take(found)
  else
    withhold(found, head[2])
    -- Also when nothing was found: who repeats it waits for replicas, and only what is written is waited for.
    redis.call('HSET', KEYS[1], 'epoch', head[1])
  end
end
return head
