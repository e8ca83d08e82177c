-- ARGV: name, holder, ms, note, most leases of the kind. Returns 1: held, 0: by somebody else, -1: there are too many.
local there = redis.call('HGET', KEYS[1], ARGV[1])
local who = holder(there)
if who and who ~= ARGV[2] then return 0 end
local most = tonumber(ARGV[5])
if not there and redis.call('HLEN', KEYS[1]) >= most and #held() / 2 >= most then return -1 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[3])) .. ' ' .. ARGV[2] .. ' ' .. ARGV[4])
return 1
