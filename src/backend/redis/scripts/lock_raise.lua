-- Makes all fences to come greater than this one, and the holder's own no smaller.
--
-- KEYS  lock, floor
-- ARGV  token, fence, linger (ms)
-- Returns 1 if the token holds the lock, else 0

local stored = redis.call('MGET', KEYS[1], KEYS[2])
local lock, floor = read(stored[1]), floor_of(stored[2])
if not lock or lock.token ~= ARGV[1] then
  return 0
end
lock.fence = math.max(lock.fence, tonumber(ARGV[2]))
redis.call('SETRANGE', KEYS[1], FENCE, struct.pack('>I8', lock.fence))
raise_floor(KEYS[2], floor, lock.fence, redis.call('PTTL', KEYS[1]) + ARGV[3])
return 1
