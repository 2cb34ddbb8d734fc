-- Shared by all scripts: stands before each of them.
--
-- The state of a key is a hash:
--   f  last fence                         n  failures in a row
--   o  owner, while led                   k  dead leaders in a row
--   i  inbox of the leader                u  scatter until (us)
--   d  deadline of the last lease (us)    c  owner that completed last
--   w  inboxes that wait, each followed by a space
-- and if the key has variants, what they share lies in the same hash, the state of the primary key:
--   v  the floor: what a variant has with a fence up to it is invalidated
--   g  greatest fence of all variants, never below the floor
--   j  inboxes that took part in flights of variants since it was raised, each followed by a space
-- Times are microseconds on Redis' own clock. A double holds them exactly until the year 2255; they are written with
-- `%.0f`, because Lua's own conversion turns to scientific notation at fifteen digits.
--
-- The scripts of a variant are given the state of its primary as one more key, the last one.

local function int(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Reads a key of ours. What lies there as another type was put there by nobody who speaks this protocol: it is removed,
-- because no operation could get past it.
local function ours(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      redis.call('UNLINK', key)
    end
    return redis.call(command, key, ...)
  end
  return reply
end

-- What the header of the stored record tells (milliseconds), or nil. Only the header is read: Redis hashes every byte
-- of a string that enters Lua. A header that no version of this crate wrote is no record, and neither is one without a
-- lifetime. A fence near the last one that a double holds exactly would stop all later ones from growing; half of that is
-- reached in the year 2112. No version keeps anything for longer than 70 years (2^41 ms).
local function seen(key)
  local head = ours('GETRANGE', key, 0, 35)
  if #head < 36 or string.sub(head, 1, 4) ~= 'sfr\1' then
    return nil
  end
  local fence, total, fresh, stale = struct.unpack('>I8I8I8I8', head, 5)
  local left = redis.call('PTTL', key)
  if left < 0 or left > total or math.max(total, fresh, stale) > 2 ^ 41 or fence < 1 or fence > 2 ^ 52 then
    return nil
  end
  return { fence = fence, age = total - left, fresh = fresh, stale = stale, left = left * 1000 }
end

-- Keeps the state until `till`, and never shortens its life.
local function keep(key, now, till)
  local left = math.ceil((till - now) / 1000)
  if redis.call('PTTL', key) < left then
    redis.call('PEXPIRE', key, int(left))
  end
end

-- The floor and the greatest fence of the family. Nothing is known to be above the floor of a family without one: it was
-- lost, or nobody began yet. A key without variant lies above everything.
local function family(primary)
  if not primary then
    return 0, 0
  end
  local state = ours('HMGET', primary, 'v', 'g')
  return tonumber(state[1]) or math.huge, tonumber(state[2]) or 0
end

-- Hands out a fence to a variant: it counts, and what is older does so only if it did before.
local function rise(primary, floor, fence)
  if floor == math.huge then
    redis.call('HSET', primary, 'v', int(fence - 1))
  end
  redis.call('HSET', primary, 'g', int(fence))
end

-- Notes an inbox that must hear when the family is invalidated: the 256 that came last, of 24 digits and a space.
local function note(primary, inbox)
  local noted = redis.call('HGET', primary, 'j') or ''
  if not string.find(noted, inbox, 1, true) then
    redis.call('HSET', primary, 'j', string.sub(noted .. inbox .. ' ', -256 * 25))
  end
end

-- Raises the floor to all that the variants of a key have. They are left as they are: whoever comes to one of them looks
-- at the floor first.
local function raise(primary, now, greatest)
  local floor = int(math.max(now, tonumber(greatest)))
  redis.call('HSET', primary, 'v', floor, 'g', floor)
  redis.call('HDEL', primary, 'j')
end

-- A message: kind, digest of the key, fence or time.
local function message(kind, digest, number)
  return string.char(kind) .. digest .. struct.pack('>I8', number)
end

local function tell(inboxes, channel, text)
  for inbox in string.gmatch(inboxes or '', '%x+') do
    redis.call('PUBLISH', channel .. inbox, text)
  end
end

-- Those who take part in a flight: the leader is told as well that it was invalidated, because its replica must stop
-- answering later callers from this flight.
local function participants(leader, waiting)
  if leader and not string.find(waiting or '', leader, 1, true) then
    return (waiting or '') .. leader
  end
  return waiting
end
