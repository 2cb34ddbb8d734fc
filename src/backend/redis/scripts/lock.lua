-- Shared by the scripts of locks: stands between lib.lua and each of them.
--
-- A lock is a hash that ends with its lease:
--   t  token of the holder                m  what it tells of itself, if anything
--   s  its last request that counted      n  1 if there was no floor before it
--   f  its fence                          w  queue of those who wait
-- and for a moment after a release, beside the queue:
--   r  ticket whose turn it is            u  until when (us)
-- Its floor is a string, a fence below every fence to come, which outlives it.
--
-- The queue is one string, so that nobody who waits for nothing pays for a structure: places of 42 bytes, each a ticket
-- of 16 digits, a colon, an inbox of 24 digits, and a space. Requests are counted by one process, hence far below what
-- a double holds exactly.

-- As in the model: a turn (us), how long a lock that is free remembers who waits (ms), and how many places there are.
local TURN, REMEMBER, PLACES = 100000, 1000, 1024

-- Where the place of a ticket begins, if it has one. No other digits stand before a colon.
local function find(queue, ticket)
  return ticket ~= '' and string.find(queue, ticket .. ':', 1, true)
end

-- The queue without a place for this ticket.
local function without(queue, ticket)
  local at = find(queue, ticket)
  return at and string.sub(queue, 1, at - 1) .. string.sub(queue, at + 42) or queue
end

-- The queue with a place for this ticket: the one it has, where it may hear elsewhere by now, or the last one.
local function with(queue, ticket, inbox)
  local at = find(queue, ticket)
  if at then
    return string.sub(queue, 1, at + 16) .. inbox .. string.sub(queue, at + 41)
  end
  return #queue < PLACES * 42 and queue .. ticket .. ':' .. inbox .. ' ' or queue
end

-- Writes the queue if it has changed.
local function requeue(key, before, queue)
  if queue == '' and before ~= '' then
    redis.call('HDEL', key, 'w')
  elseif queue ~= before then
    redis.call('HSET', key, 'w', queue)
  end
end

-- The floor, or nil. What is no fence, or so great that it would stop all later ones from growing, is none (see `seen`).
local function floor_of(key)
  local fence = tonumber(ours('GET', key) or nil)
  return fence and fence >= 1 and fence <= 2 ^ 52 and fence or nil
end

-- Raises the floor to `fence` and lets it live for `left` ms, unless it is higher or lives longer.
local function raise_floor(key, floor, fence, left)
  if floor then
    fence, left = math.max(floor, fence), math.max(redis.call('PTTL', key), left)
  end
  redis.call('SET', key, int(fence), 'PX', int(left))
end

-- The first of those who wait has its turn, and the second looks whether it came. The queue is passed in because it may
-- have changed since it was written. The messages come last: a turn that nobody was told of is found by looking.
local function pass_on(key, queue, digest, channel)
  redis.call('UNLINK', key)
  if queue == '' then
    return
  end
  local others = string.sub(queue, 43)
  redis.call('HSET', key, 'r', string.sub(queue, 1, 16), 'u', int(clock() + TURN))
  redis.call('PEXPIRE', key, REMEMBER)
  requeue(key, '', others)
  redis.call('PUBLISH', channel .. string.sub(queue, 18, 41), message(6, digest, 0))
  if others ~= '' then
    redis.call('PUBLISH', channel .. string.sub(others, 18, 41), message(6, digest, TURN))
  end
end
