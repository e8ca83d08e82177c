-- In front of every script about leases. KEYS[1]: those of a kind, name -> "until holder note", by the clock of this server.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Who holds a lease, if it is not over.
local function holder(lease)
  local ends, who = string.match(lease or '', '^(%d+) (%S+) ')
  return ends and tonumber(ends) > now and who or nil
end

-- All names with their leases, but for those that are over: they go.
local function held()
  local all, left, over = redis.call('HGETALL', KEYS[1]), {}, {}
  for i = 1, #all, 2 do
    local to = holder(all[i + 1]) and left or over
    to[#to + 1] = all[i]
    if to == left then to[#to + 1] = all[i + 1] end
  end
  for i = 1, #over, 1000 do redis.call('HDEL', KEYS[1], unpack(over, i, math.min(i + 999, #over))) end
  return left
end
