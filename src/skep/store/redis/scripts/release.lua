-- ARGV: name, holder.
if holder(redis.call('HGET', KEYS[1], ARGV[1])) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
