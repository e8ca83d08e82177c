-- KEYS: head, snapshots, senders, inbox, and all other keys of the session. ARGV: how many snapshots and senders those keys are
-- of; then, if the log has to end there and no letter may wait, epoch, seq and hash of its head.
-- Returns 1: done; 0, and does nothing, if there are more of those keys by now; 2 if the log goes on.
if ARGV[3] then
  local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'hash')
  if not head[1] then return 1 end -- dropped by a try of this very call
  if head[1] ~= ARGV[3] or head[2] ~= ARGV[4] or head[3] ~= ARGV[5] or redis.call('XLEN', KEYS[4]) > 0 then return 2 end
end
if redis.call('ZCARD', KEYS[2]) ~= tonumber(ARGV[1]) or redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[2]) then return 0 end
for i = 1, #KEYS, 1000 do redis.call('UNLINK', unpack(KEYS, i, math.min(i + 999, #KEYS))) end
return 1
