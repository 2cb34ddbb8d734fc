-- Invalidates and stores in one step.
--
-- KEYS  record, state, and for a large record the name under which it lies ready
-- ARGV  linger (us), total lifetime (ms), digest, channel prefix, the record if it is small
-- Returns the fence, or 0 if nothing lies ready

if KEYS[3] and redis.call('EXISTS', KEYS[3]) == 0 then
  return 0
end
local now = clock()
local record = seen(KEYS[1])
local state = ours('HMGET', KEYS[2], 'f', 'i', 'w', 'u')
local fence = math.max(now, tonumber(state[1] or 0) + 1, (record and record.fence or 0) + 1)

-- Only this script knows the fence, so it writes it into the header of a record that it need not read.
if KEYS[3] then
  redis.call('RENAME', KEYS[3], KEYS[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[2])
end
redis.call('SETRANGE', KEYS[1], 4, struct.pack('>I8', fence))

if state[1] then
  redis.call('HSET', KEYS[2], 'f', int(fence))
  redis.call('HDEL', KEYS[2], 'o', 'i', 'd', 'w')
  keep(KEYS[2], now, math.max(now + tonumber(ARGV[2]) * 1000, tonumber(state[4] or 0)) + tonumber(ARGV[1]))
  local inboxes = state[3] or ''
  if state[2] and not string.find(inboxes, state[2], 1, true) then
    inboxes = inboxes .. state[2]
  end
  tell(inboxes, ARGV[4], message(4, ARGV[3], 0))
end
return fence
