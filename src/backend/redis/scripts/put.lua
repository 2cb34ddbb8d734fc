-- Invalidates and stores in one step.
--
-- KEYS  record, state, and for a large record the name under which it lies ready; of a variant also the state of its
--       primary
-- ARGV  linger (us), total lifetime (ms), digest, channel prefix, the record if it is small
-- Returns the fence, or 0 if nothing lies ready

local ready, primary = KEYS[3], KEYS[4]
if ARGV[5] then
  ready, primary = nil, KEYS[3]
end
if ready and redis.call('EXISTS', ready) == 0 then
  return 0
end
local now = clock()
local floor, greatest = family(primary)
local record = seen(KEYS[1])
local state = ours('HMGET', KEYS[2], 'f', 'i', 'w', 'u', 'v', 'g', 'j')
local fence = math.max(now, tonumber(state[1] or 0) + 1, (record and record.fence or 0) + 1, greatest + 1)
local till = now + tonumber(ARGV[2]) * 1000

-- Only this script knows the fence, so it writes it into the header of a record that it need not read.
if ready then
  redis.call('RENAME', ready, KEYS[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[2])
end
redis.call('SETRANGE', KEYS[1], 4, struct.pack('>I8', fence))
if primary then
  rise(primary, floor, fence)
  keep(primary, now, till)
end

local told
if state[1] then
  redis.call('HSET', KEYS[2], 'f', int(fence))
  redis.call('HDEL', KEYS[2], 'o', 'i', 'w')
  keep(KEYS[2], now, math.max(till, tonumber(state[4] or 0)) + tonumber(ARGV[1]))
  -- Those whose family was invalidated have heard of it.
  told = tonumber(state[1]) > floor and participants(state[2], state[3])
end
if state[5] then
  raise(KEYS[2], now, state[6])
end
tell(told, ARGV[4], message(4, ARGV[3], 0))
if state[7] then
  tell(state[7], ARGV[4], message(5, ARGV[3], 0))
end
return fence
