-- Makes all fences to come greater than this one, and the holder's own no smaller.
--
-- KEYS  lock, floor
-- ARGV  token, fence, linger (ms)
-- Returns 1 if the token holds the lock, else 0

local state = ours('HMGET', KEYS[1], 't', 'f')
if state[1] ~= ARGV[1] then
  return 0
end
local fence = math.max(tonumber(state[2]), tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'f', int(fence))
raise_floor(KEYS[2], floor_of(KEYS[2]), fence, redis.call('PTTL', KEYS[1]) + ARGV[3])
return 1
