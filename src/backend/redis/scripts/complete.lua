-- Stores the result of a flight, ends the flight, and tells everybody who waits.
--
-- KEYS  record, state, and for a large record the name under which it lies ready; of a variant also the state of its
--       primary
-- ARGV  owner, fence, total lifetime (ms), digest, channel prefix, the record if it is small
-- Returns 1 stored, 3 stored before, 0 superseded, 2 nothing lies ready

local owner, fence = ARGV[1], ARGV[2]
local ready, primary = KEYS[3], KEYS[4]
if ARGV[6] then
  ready, primary = nil, KEYS[3]
end

-- A large record was set before this script ran; it must not lie about when it is not wanted.
local function answer(code)
  if ready then
    redis.call('UNLINK', ready)
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
if state[2] ~= owner or state[1] ~= fence or tonumber(fence) <= family(primary) then
  return answer(0)
end

-- The record first and the message last: a script that fails half-way is not rolled back, and a record that nobody
-- was told about is found at the end of the lease, while a message without a record would send everyone in circles.
if ready then
  if redis.call('EXISTS', ready) == 0 then
    return 2
  end
  redis.call('RENAME', ready, KEYS[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[6], 'PX', ARGV[3])
end
redis.call('HSET', KEYS[2], 'n', 0, 'k', 0, 'c', owner)
redis.call('HDEL', KEYS[2], 'o', 'i', 'w')
if primary then
  -- Without its floor the record would be lost.
  local now = clock()
  keep(primary, now, now + tonumber(ARGV[3]) * 1000)
end
-- The state lives as long as the lease let it: what it says of failures is forgotten, and fences are times.
-- A record that came as an argument is a message as it stands: it names its key and its fence.
tell(state[4], ARGV[5], ARGV[6] or message(1, ARGV[4], tonumber(fence)))
return 1
