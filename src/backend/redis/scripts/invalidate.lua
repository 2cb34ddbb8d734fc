-- Deletes the record; a flight in the air neither stores nor answers anyone who arrives later. Of a key with variants,
-- theirs as well.
--
-- KEYS  record, state; of a variant also the state of its primary
-- ARGV  digest, channel prefix
-- Returns 1

local now = clock()
local record = seen(KEYS[1])
redis.call('UNLINK', KEYS[1])
local state = ours('HMGET', KEYS[2], 'f', 'i', 'w', 'v', 'g', 'j')
local told
if state[1] then
  local fence = math.max(now, tonumber(state[1]) + 1, (record and record.fence or 0) + 1)
  redis.call('HSET', KEYS[2], 'f', int(fence))
  redis.call('HDEL', KEYS[2], 'o', 'i', 'w')
  -- Those whose family was invalidated have heard of it.
  told = tonumber(state[1]) > family(KEYS[3]) and participants(state[2], state[3])
end
if state[4] then
  raise(KEYS[2], now, state[5])
end
tell(told, ARGV[2], message(4, ARGV[1], 0))
if state[6] then
  tell(state[6], ARGV[2], message(5, ARGV[1], 0))
end
return 1
