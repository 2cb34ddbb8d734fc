-- Lets the lease of a lock run for its whole length from now.
--
-- KEYS  lock, floor
-- ARGV  token, its request or nothing if whatever was asked before is older than this, lease (ms), linger (ms)
-- Returns {1, fence, last request}  held
--         {2}                       nobody holds it
--         {3}                       another one does

local stored = redis.call('MGET', KEYS[1], KEYS[2])
local lock, floor = read(stored[1]), floor_of(stored[2])
if not lock or lock.token ~= ARGV[1] then
  return { lock and 3 or 2 }
end
local asked = tonumber(ARGV[2]) or lock.seq + LEAP
local left = ARGV[3]
if asked >= lock.seq then
  lock.seq = asked
  redis.call('SETRANGE', KEYS[1], SEQ, struct.pack('>I8', asked))
  redis.call('PEXPIRE', KEYS[1], left)
else
  left = redis.call('PTTL', KEYS[1])
end
if floor and floor >= lock.fence then
  raise_floor(KEYS[2], floor, lock.fence, left + ARGV[4])
end
return { 1, lock.fence, lock.seq }
