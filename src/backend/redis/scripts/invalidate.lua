-- Deletes the record; a flight in the air neither stores nor answers anyone who arrives later.
--
-- KEYS  record, state
-- ARGV  digest, channel prefix
-- Returns 1

local record = seen(KEYS[1])
redis.call('UNLINK', KEYS[1])
local state = ours('HMGET', KEYS[2], 'f', 'i', 'w')
if not state[1] then
  -- Nobody leads and nobody waits.
  return 1
end
local fence = math.max(clock(), tonumber(state[1]) + 1, (record and record.fence or 0) + 1)
redis.call('HSET', KEYS[2], 'f', int(fence))
redis.call('HDEL', KEYS[2], 'o', 'i', 'd', 'w')
-- The leader is told as well: its replica must stop answering later callers from this flight.
local inboxes = state[3] or ''
if state[2] and not string.find(inboxes, state[2], 1, true) then
  inboxes = inboxes .. state[2]
end
tell(inboxes, ARGV[2], message(4, ARGV[1], 0))
return 1
