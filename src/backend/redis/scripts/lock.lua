-- Shared by the scripts of locks: stands between lib.lua and each of them.
--
-- A lock is one string that ends with its lease, because what a script costs is the commands it runs:
--   4   'sfl' and the version of this format
--   8   last request of the holder that counted        8   its fence
--   1   1 if there was no floor before it, nor another attempt
--   4   how many wait
--   4+  token of the holder                            4+  what it tells of itself
-- and then, in order, a place for each of those who wait, with what its request asked for:
--   17  ticket, in digits, and a colon                 24  inbox, in digits
--   8   request
--   1+  lease, in ms                                   1+  the same of the floor, or empty if others decide as well
--   4+  token                                          4+  what it tells of itself
-- `1+` and `4+` are a length and so many bytes; what a holder tells of itself, if anything, stands behind a `=`.
-- Requests are counted by one process, hence far below what a double holds exactly.
--
-- Its floor is another string of 8 bytes, a fence below every fence to come, which outlives it. Where digits are not
-- needed there are none: to write those of one number takes as long as a command.

-- As in the model.
local PLACES, LEAP = 1024, 2 ^ 32

local MAGIC, HEAD, PLACE = 'sfl\1', '>c4I8I8BI4I4c0I4c0', '>c17c24I8Bc0Bc0I4c0I4c0'

-- The lock that a string is, if there is one. What somebody else put there is none, and is written over: also what is no
-- string, which `MGET` tells as nothing.
local function read(text)
  if text and string.sub(text, 1, 4) == MAGIC then
    local whole, _, seq, fence, first, places, token, about, at = pcall(struct.unpack, HEAD, text)
    if whole then
      local queue = string.sub(text, at)
      return { seq = seq, fence = fence, first = first, places = places, token = token, about = about, queue = queue }
    end
  end
end

-- Writes it, with a lifetime as `SET` wants it.
local function write(key, lock, ...)
  local token, about = lock.token, lock.about
  local head = struct.pack(HEAD, MAGIC, lock.seq, lock.fence, lock.first, lock.places, #token, token, #about, about)
  redis.call('SET', key, head .. lock.queue, ...)
end

-- Where the place of a ticket begins, if it has one. No other digits stand before a colon, unless in a text of somebody who
-- has guessed 64 random bits.
local function find(lock, ticket)
  return lock and ticket ~= '' and string.find(lock.queue, ticket .. ':', 1, true)
end

-- Puts what is given into the stead of the place that begins there.
local function replace(lock, at, place)
  local rest = select(8, struct.unpack(PLACE, lock.queue, at))
  lock.queue = string.sub(lock.queue, 1, at - 1) .. place .. string.sub(lock.queue, rest)
end

-- Takes out the place that begins there.
local function leave(lock, at)
  replace(lock, at, '')
  lock.places = lock.places - 1
end

-- The floor, or nil. What is no fence, or so great that it would stop all later ones from growing, is none (see `seen`).
local function floor_of(text)
  local fence = text and #text == 8 and struct.unpack('>I8', text)
  return fence and fence >= 1 and fence <= 2 ^ 52 and fence or nil
end

-- Raises the floor to `fence`, unless it is higher, and lets it live for `left` ms.
local function raise_floor(key, floor, fence, left)
  redis.call('SET', key, struct.pack('>I8', math.max(floor or 0, fence)), 'PX', left)
end
