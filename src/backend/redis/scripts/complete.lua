-- Stores the result of a flight, ends the flight, and tells everybody who waits.
--
-- KEYS  record, state, and for a large record the name under which it lies ready
-- ARGV  owner, fence, total lifetime (ms), digest, channel prefix, the record if it is small
-- Returns 1 stored, 3 stored before, 0 superseded, 2 nothing lies ready

local owner, fence = ARGV[1], ARGV[2]

-- A large record was set before this script ran; it must not lie about when it is not wanted.
local function answer(code)
  if KEYS[3] then
    redis.call('UNLINK', KEYS[3])
  end
  return code
end

local state = redis.call('HMGET', KEYS[2], 'f', 'o', 'c', 'w')
if state[3] == owner then
  -- A retry: its first reply was lost, and the record has aged since.
  return answer(3)
end
-- The owner alone is not enough: the fence says which flight. The stored record needs no look: whatever writes one
-- clears the owner, and the fence of a flight is above that of the record it found.
if state[2] ~= owner or state[1] ~= fence then
  return answer(0)
end

-- The record first and the message last: a script that fails half-way is not rolled back, and a record that nobody
-- was told about is found at the end of the lease, while a message without a record would send everyone in circles.
if KEYS[3] then
  if redis.call('EXISTS', KEYS[3]) == 0 then
    return 2
  end
  redis.call('RENAME', KEYS[3], KEYS[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[6], 'PX', ARGV[3])
end
redis.call('HSET', KEYS[2], 'n', 0, 'k', 0, 'c', owner)
redis.call('HDEL', KEYS[2], 'o', 'i', 'd', 'w')
-- The state lives as long as the lease let it: what it says of failures is forgotten, and fences are times.
-- A record that came as an argument is a message as it stands: it names its key and its fence.
tell(state[4], ARGV[5], ARGV[6] or message(1, ARGV[4], tonumber(fence)))
return 1
