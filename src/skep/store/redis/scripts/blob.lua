-- KEYS: a blob, and, if it is large, a draft with its pieces. ARGV: the time, its size, its bytes if it is small. Returns 0 if the draft is gone.
if KEYS[2] then
  -- Without the draft this is done again, as the reply was lost; or it took so long that the draft is gone.
  if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('RENAME', KEYS[2], KEYS[1])
  elseif redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
  end
  redis.call('PERSIST', KEYS[1])
  redis.call('HSET', KEYS[1], 'at', ARGV[1], 'size', ARGV[2])
else
  redis.call('HSET', KEYS[1], 'at', ARGV[1], 'size', ARGV[2], '0', ARGV[3])
end
return 1
