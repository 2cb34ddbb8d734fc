-- Shared by all scripts: stands before each of them.
--
-- The state of a key is a hash:
--   f  last fence                    n  failures in a row
--   o  owner, while led              k  dead leaders in a row
--   i  inbox of the leader           u  scatter until (us)
--   d  deadline of the lease (us)    c  owner that completed last
--   w  inboxes that wait, each followed by a space
-- Times are microseconds on Redis' own clock. A double holds them exactly until the year 2255; they are written with
-- `%.0f`, because Lua's own conversion turns to scientific notation at fifteen digits.

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

-- A message: kind, digest of the key, fence or time.
local function message(kind, digest, number)
  return string.char(kind) .. digest .. struct.pack('>I8', number)
end

local function tell(inboxes, channel, text)
  for inbox in string.gmatch(inboxes or '', '%x+') do
    redis.call('PUBLISH', channel .. inbox, text)
  end
end
