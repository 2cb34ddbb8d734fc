-- Lets a lease run for its whole length again. A leader past its deadline whom nobody has replaced may still renew.
--
-- KEYS  state; of a variant also the state of its primary
-- ARGV  owner, lease (us), linger (us)
-- Returns 1 held, 0 lost

local state = redis.call('HMGET', KEYS[1], 'o', 'f')
if state[1] ~= ARGV[1] or tonumber(state[2]) <= family(KEYS[2]) then
  return 0
end
local now = clock()
local deadline = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'd', int(deadline))
for _, state in ipairs(KEYS) do
  keep(state, now, deadline + tonumber(ARGV[3]))
end
return 1
