-- Gives a lock back, and the place of who gave up waiting for it.
--
-- KEYS  lock, floor
-- ARGV  token, its request, ticket or nothing, '1' if the lock was never held by one who knew, digest, channel prefix
-- Returns 1 if the token held it, else 0

local ticket = ARGV[3]
local state = ours('HMGET', KEYS[1], 't', 's', 'f', 'n', 'w')
local queue, seq = state[5] or '', tonumber(ARGV[2])
local others = queue
if find(queue, ticket) then
  -- A place that a younger request has noted is kept.
  local asked = redis.call('HGET', KEYS[1], ticket)
  local _, noted = cmsgpack.unpack(asked or cmsgpack.pack('', '0'))
  if tonumber(noted) <= seq then
    others = leave(KEYS[1], queue, ticket)
  end
end
if state[1] == ARGV[1] and tonumber(state[2]) <= seq then
  -- The floor goes only if nothing but the attempt with this request has made it.
  local own = ARGV[4] == '1' and state[4] and tonumber(state[2]) == seq
  local clear = own and floor_of(KEYS[2]) == tonumber(state[3])
  if clear then
    redis.call('UNLINK', KEYS[2])
  end
  pass_on(KEYS[1], KEYS[2], state, clear and '1', others, ARGV[5], ARGV[6])
  return 1
end
requeue(KEYS[1], queue, others)
return 0
