-- Ends a flight without a result. Works by owner alone: after a lost reply nobody knows the fence.
--
-- KEYS  state; of a variant also the state of its primary
-- ARGV  owner, 'retry' or 'abandon' or 'scatter', scatter time (us), linger (us), digest, channel prefix
-- Returns 1 if the owner led, else 0

local state = redis.call('HMGET', KEYS[1], 'o', 'n', 'w', 'f')
if state[1] ~= ARGV[1] or tonumber(state[4]) <= family(KEYS[2]) then
  return 0
end
local text
if ARGV[2] == 'scatter' then
  local now = clock()
  local till = now + tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], 'u', int(till))
  keep(KEYS[1], now, till + tonumber(ARGV[4]))
  text = message(3, ARGV[5], tonumber(ARGV[3]))
else
  if ARGV[2] == 'retry' then
    redis.call('HSET', KEYS[1], 'n', tonumber(state[2] or 0) + 1)
  end
  text = message(2, ARGV[5], 0)
end
redis.call('HDEL', KEYS[1], 'o', 'i', 'w')
tell(state[3], ARGV[6], text)
return 1
