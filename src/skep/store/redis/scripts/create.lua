-- KEYS: head. ARGV: claim, created, hash, seal. Makes the head of an empty log. Returns the claim of whoever made it.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'epoch', 0, 'seq', 0, 'mark', 0, 'hash', ARGV[3], 'seal', ARGV[4], 'created', ARGV[2], 'note', '',
    'owner', '', 'claim', ARGV[1])
end
return redis.call('HGET', KEYS[1], 'claim')
