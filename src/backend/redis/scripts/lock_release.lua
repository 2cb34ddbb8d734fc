-- Gives a lock back, and the place of who gave up waiting for it.
--
-- KEYS  lock, floor
-- ARGV  token, its request, ticket or nothing, '1' if the lock was never held by one who knew, digest, channel prefix
-- Returns 1 if the token held it, else 0

-- Tells an inbox of this server that the lock is its own; returns whether somebody hears. A replica must not pass it on: who
-- hears there, where it lost its primary, would believe what is granted to another one here.
local function hears(channel, text)
  redis.set_repl(redis.REPL_NONE)
  local heard = redis.call('PUBLISH', channel, text)
  redis.set_repl(redis.REPL_ALL)
  return heard > 0
end

local lock, seq = read(redis.call('MGET', KEYS[1])[1]), tonumber(ARGV[2])
if not lock then
  return 0
end
-- A place that a younger request has noted is kept.
local at, queue = find(lock, ARGV[3]), nil
if at and noted(lock, at) <= seq then
  queue = leave(lock, at)
end
if lock.token ~= ARGV[1] or lock.seq > seq then
  if queue then
    write(KEYS[1], lock, queue, 'KEEPTTL')
  end
  return 0
end

-- The floor goes only if nothing but the attempt with this request has made it. Who is next makes it then.
local own = ARGV[4] == '1' and lock.first == 1 and lock.seq == seq
local clear = own and floor_of(redis.call('MGET', KEYS[2])[1]) == lock.fence
if clear then
  redis.call('UNLINK', KEYS[2])
end

-- To the first whose inbox hears. What was there goes first: a server that takes no writes refuses that, before anybody is
-- told of a grant, and one that is out of memory refuses nothing that comes behind it. Its fence is never below the floor,
-- so the next one is above it.
redis.call('UNLINK', KEYS[1])
lock.fence, lock.first = lock.fence + 1, clear and 1 or 0
local text, rest = queue or lock.text, queue and 1 or lock.at
while rest <= #text do
  local ticket, inbox, lease, life
  ticket, inbox, lock.seq, lease, life, lock.token, lock.about, rest = struct.unpack(PLACE, text, rest)
  lock.places = lock.places - 1
  local grant = message(6, ARGV[5], lock.fence) .. struct.pack('>I8', lock.seq) .. string.sub(ticket, 2)
  if hears(ARGV[6] .. inbox, grant) then
    write(KEYS[1], lock, string.sub(text, rest), 'PX', lease)
    if life ~= '' then
      raise_floor(KEYS[2], nil, lock.fence, life)
    end
    return 1
  end
end
return 1
