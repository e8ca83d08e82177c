-- Behind letters.lua and log.lua. Appends events, with all that belongs to them, to a log whose head is the one that is known.
-- KEYS: head, log, then of archive, archived, inbox, and senders and answers, or pending, what is touched.
-- ARGV: epoch, seq, hash of the head; seq, hash, seal of the new one; first event, batch, blob, signature; 1 = it is committed with this,
-- else commit.lua is to follow: nobody hears of it until then, and the answers wait;
-- how many tasks are archived, task and entry of each; place, sender, number and answer of each letter that is taken.
-- Returns 1: written, 0: the head is another, or the place of a letter that is not in the inbox.
if not known() then return 0 end
local tasks = tonumber(ARGV[12])
local found, gone = there(13 + 2 * tasks)
if gone then return gone end
-- First what may be refused (memory, an entry that has no place behind the last one): nothing is written then.
redis.call('XADD', KEYS[2], ARGV[4] .. '-0', 'first', ARGV[7], 'epoch', ARGV[1], 'batch', ARGV[8], 'hash', ARGV[5], 'sign', ARGV[10],
  'blob', ARGV[9])
redis.call('HSET', KEYS[1], 'seq', ARGV[4], 'hash', ARGV[5], 'seal', ARGV[6])
for i = 13, 12 + 2 * tasks, 1000 do
  local last = math.min(i + 999, 12 + 2 * tasks)
  redis.call('HSET', KEYS[3], unpack(ARGV, i, last))
  local names = {}
  for k = i, last, 2 do
    names[#names + 1] = 0
    names[#names + 1] = ARGV[k]
  end
  redis.call('ZADD', KEYS[4], unpack(names))
end
if ARGV[11] == '1' then
  redis.call('HSET', KEYS[1], 'mark', ARGV[4])
  push(tag .. 'log', ARGV[7], ARGV[4], ARGV[1], ARGV[8], ARGV[5], ARGV[10], ARGV[9])
  take(found)
else
  withhold(found, ARGV[4])
end
return 1
