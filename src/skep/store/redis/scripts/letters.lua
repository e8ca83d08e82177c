-- In front of every script that puts or takes letters. KEYS[1] is the session's head; `tag` is what all its keys begin with.
-- Each key that is touched is among KEYS: what is not, a Cluster may have moved, and its refusal would come half way through.
local tag = string.sub(KEYS[1], 1, -5)

-- Publishes pieces in few messages of at most 64 KiB. What is too large to be told becomes an empty message: look.
local function tell(channel, pieces)
  local some, size = {}, 0
  local function flush()
    if #some > 0 then redis.call('PUBLISH', channel, table.concat(some)) end
    some, size = {}, 0
  end
  for _, piece in ipairs(pieces) do
    if size + #piece > 65536 then flush() end
    if #piece > 65536 then
      redis.call('PUBLISH', channel, '')
    else
      some[#some + 1], size = piece, size + #piece
    end
  end
  flush()
end

-- Which of the letters from ARGV[first] on (place, sender, number, answer of each) are in the inbox, and the first that is not.
local function there(first)
  local found, gone = {}, nil
  for i = first, #ARGV, 4 do
    if #redis.call('XRANGE', tag .. 'inbox', ARGV[i], ARGV[i]) == 1 then
      found[#found + 1] = i
    else
      gone = gone or ARGV[i]
    end
  end
  return found, gone
end

-- Leaves answers (sender, number, text; an empty text is none) and tells them, but not to senders that were forgotten.
local function leave(answers)
  local said, senders = {}, {}
  for i = 1, #answers, 3 do
    local sender, number, answer = answers[i], answers[i + 1], answers[i + 2]
    if answer ~= '' and redis.call('HEXISTS', tag .. 'senders', sender) == 1 then
      redis.call('ZADD', tag .. 'answers:' .. sender, number, number .. ' ' .. answer)
      if not said[sender] then
        said[sender] = {}
        senders[#senders + 1] = sender
      end
      table.insert(said[sender], number .. ' ' .. #answer .. '\n' .. answer)
    end
  end
  for _, sender in ipairs(senders) do tell(tag .. 'to:' .. sender, said[sender]) end
end

-- Removes the letters that `there` found, and leaves and tells their answers.
local function take(found)
  local answers = {}
  for _, i in ipairs(found) do
    redis.call('XDEL', tag .. 'inbox', ARGV[i])
    for k = i + 1, i + 3 do answers[#answers + 1] = ARGV[k] end
  end
  leave(answers)
end

-- Removes them too, but what their answers tell waits until the log up to event `seq` is committed (commit.lua).
local function withhold(found, seq)
  for _, i in ipairs(found) do
    redis.call('XDEL', tag .. 'inbox', ARGV[i])
    if ARGV[i + 3] ~= '' then redis.call('RPUSH', tag .. 'pending', seq, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
  end
end
