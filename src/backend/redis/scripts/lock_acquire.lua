-- Takes a lock, or a place among those who wait for it.
--
-- KEYS  lock, floor
-- ARGV  token, its request, lease (ms), life of the floor (ms) if this node alone decides, else nothing, ticket and inbox
--       of who waits (or both empty), metadata if there is any
-- Returns fence                               granted
--         {lease left (ms), metadata or nil}  taken

local token, seq, lease, life, ticket = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local about = ARGV[7] and '=' .. ARGV[7] or ''
local stored = redis.call('MGET', KEYS[1], KEYS[2])
local lock, floor = read(stored[1]), floor_of(stored[2])
local at = find(lock, ticket)

if lock and (lock.token ~= token or lock.seq > seq) then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 then
    -- Noted in the same step in which the caller learns that it waits: no release can come in between. Who holds the lock
    -- does not wait for it: that is a request which comes late.
    if ticket ~= '' and lock.token ~= token then
      local place = struct.pack(PLACE, ':' .. ticket, ARGV[6], seq, #lease, lease, #life, life, #token, token, #about, about)
      local before, rest
      if at then
        before, rest = noted(lock, at)
      end
      if not at and lock.places < PLACES then
        redis.call('SETRANGE', KEYS[1], #lock.text, place)
        redis.call('SETRANGE', KEYS[1], COUNT, struct.pack('>I4', lock.places + 1))
      elseif at and before <= seq and rest - at == #place then
        redis.call('SETRANGE', KEYS[1], at - 1, place)
      elseif at and before <= seq then
        local queue = string.sub(lock.text, lock.at, at - 1) .. place .. string.sub(lock.text, rest)
        write(KEYS[1], lock, queue, 'KEEPTTL')
      end
    end
    return { left, lock.about ~= '' and string.sub(lock.about, 2) or nil }
  end
  -- A lock without an end is none of ours: it would be held for ever.
  lock, at = nil, nil
end

local queue = at and leave(lock, at) or lock and string.sub(lock.text, lock.at) or ''
if not lock then
  -- The time as well: a server that comes back may have lost the last moments of a floor.
  local fence = math.max(clock(), (floor or 0) + 1)
  lock = { fence = fence, first = floor and 0 or 1, places = 0 }
elseif lock.seq ~= seq then
  -- What an earlier attempt was granted may have been held: whoever undoes this one leaves the floor.
  lock.first = 0
end
lock.token, lock.seq, lock.about = token, seq, about
write(KEYS[1], lock, queue, 'PX', lease)
if life ~= '' then
  raise_floor(KEYS[2], floor, lock.fence, life)
end
return lock.fence
