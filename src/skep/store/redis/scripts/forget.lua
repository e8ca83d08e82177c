-- KEYS: head, senders, answers of the sender. ARGV: sender.
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
