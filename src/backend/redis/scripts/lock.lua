-- Shared by the scripts of locks: stands between lib.lua and each of them.
--
-- A lock is one string that ends with its lease, because what a script costs is the commands it runs:
--   4   'sfl' and the version of this format
--   8   last request of the holder that counted        8   its fence
--   1   1 if there was no floor before it, nor another attempt
--   4   how many wait
--   4+  token of the holder                            4+  what it tells of itself
-- and then, in order, a place for each of those who wait, with what its request asked for:
--   17  a colon, and the ticket, in digits            24  inbox, in digits
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

-- Bytes before the last request, the fence and the number of places.
local SEQ, FENCE, COUNT = 4, 12, 21

-- The lock that a string is, if there is one. What somebody else put there is none, and is written over: also what is no
-- string, which `MGET` tells as nothing. The first place, if there is one, begins at `at`.
local function read(text)
  if text and string.sub(text, 1, 4) == MAGIC then
    local whole, _, seq, fence, first, places, token, about, at = pcall(struct.unpack, HEAD, text)
    if whole then
      return { text = text, at = at, seq = seq, fence = fence, first = first, places = places, token = token, about = about }
    end
  end
end

-- Writes all of it, with a lifetime as `SET` wants it. Redis hashes every byte of a string that Lua makes, so that where
-- many wait, what need not be made anew is not.
local function write(key, lock, queue, ...)
  local token, about = lock.token, lock.about
  local head = struct.pack(HEAD, MAGIC, lock.seq, lock.fence, lock.first, lock.places, #token, token, #about, about)
  redis.call('SET', key, head .. queue, ...)
end

-- Where the place of a ticket begins, if it has one. No other digits stand behind a colon, unless in a text of somebody who
-- has guessed 64 random bits.
local function find(lock, ticket)
  return lock and ticket ~= '' and string.find(lock.text, ':' .. ticket, lock.at, true)
end

-- The request that noted the place which begins there, and where the next one begins.
local function noted(lock, at)
  local _, _, seq, _, _, _, _, rest = struct.unpack(PLACE, lock.text, at)
  return seq, rest
end

-- Takes out the place that begins there, and returns the queue that is left.
local function leave(lock, at)
  local _, rest = noted(lock, at)
  lock.places = lock.places - 1
  return string.sub(lock.text, lock.at, at - 1) .. string.sub(lock.text, rest)
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
