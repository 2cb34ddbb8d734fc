-- Lets a lease run for its whole length again. A leader past its deadline whom nobody has replaced may still renew.
--
-- KEYS  state
-- ARGV  owner, lease (us), linger (us)
-- Returns 1 held, 0 lost

if redis.call('HGET', KEYS[1], 'o') ~= ARGV[1] then
  return 0
end
local now = clock()
local deadline = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'd', int(deadline))
keep(KEYS[1], now, deadline + tonumber(ARGV[3]))
return 1
