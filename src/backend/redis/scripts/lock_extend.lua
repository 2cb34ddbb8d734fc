-- Lets the lease of a lock run for its whole length from now.
--
-- KEYS  lock, floor
-- ARGV  token, its request or nothing if whatever was asked before is older than this, lease (ms), linger (ms)
-- Returns {1, fence, last request}  held
--         {2}                       nobody holds it
--         {3}                       another one does

local state = ours('HMGET', KEYS[1], 't', 's', 'f')
if state[1] ~= ARGV[1] then
  return { state[1] and 3 or 2 }
end
local last, fence = tonumber(state[2]), tonumber(state[3])
local asked = tonumber(ARGV[2]) or last + LEAP
local left
if asked >= last then
  if asked > last then
    last = asked
    redis.call('HSET', KEYS[1], 's', int(asked))
  end
  left = ARGV[3]
  redis.call('PEXPIRE', KEYS[1], left)
else
  left = redis.call('PTTL', KEYS[1])
end
local floor = floor_of(KEYS[2])
if floor and floor >= fence then
  raise_floor(KEYS[2], floor, fence, left + ARGV[4])
end
return { 1, fence, last }
