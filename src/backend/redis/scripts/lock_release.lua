-- Gives a lock back, and the place of who gave up waiting for it.
--
-- KEYS  lock, floor
-- ARGV  token, its request, ticket or nothing, '1' if the lock was never held by one who knew, digest, channel prefix
-- Returns 1 if the token held it, else 0

local ticket = ARGV[3]
local state = ours('HMGET', KEYS[1], 't', 's', 'f', 'n', 'w', 'r')
local queue = state[5] or ''
local others = without(queue, ticket)
if state[1] == ARGV[1] and tonumber(state[2]) <= tonumber(ARGV[2]) then
  -- The floor goes only if nothing but this grant has made it.
  if ARGV[4] == '1' and state[4] and floor_of(KEYS[2]) == tonumber(state[3]) then
    redis.call('UNLINK', KEYS[2])
  end
  pass_on(KEYS[1], others, ARGV[5], ARGV[6])
  return 1
end
if state[6] and state[6] == ticket then
  pass_on(KEYS[1], others, ARGV[5], ARGV[6])
else
  requeue(KEYS[1], queue, others)
end
return 0
