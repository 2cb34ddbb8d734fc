-- Shared by the scripts of locks: stands between lib.lua and each of them.
--
-- A lock is a hash that ends with its lease:
--   t  token of the holder                m  what it tells of itself, if anything
--   s  its last request that counted      n  1 if there was no floor before it, nor another attempt
--   f  its fence                          w  queue of those who wait
-- and under each ticket in the queue what its request asked for.
-- Its floor is a string, a fence below every fence to come, which outlives it.
--
-- The queue is one string, so that nobody who waits for nothing pays for a structure: places of 42 bytes, each a ticket
-- of 16 digits, a colon, an inbox of 24 digits, and a space. Requests are counted by one process, hence far below what
-- a double holds exactly.

-- As in the model.
local PLACES = 1024

-- Where the place of a ticket begins, if it has one. No other digits stand before a colon.
local function find(queue, ticket)
  return ticket ~= '' and string.find(queue, ticket .. ':', 1, true)
end

-- Takes a place out of the queue.
local function leave(key, queue, ticket)
  local at = find(queue, ticket)
  if at then
    redis.call('HDEL', key, ticket)
    queue = string.sub(queue, 1, at - 1) .. string.sub(queue, at + 42)
  end
  return queue
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

-- A new fence, above the floor and the last one.
local function next_fence(now, floor, last)
  return math.max(now, math.max(floor or 0, last) + 1)
end

-- Grants the lock to the first of those who wait and whose inbox hears; `queue` is what is left of `before`. The message goes
-- out when all is written: it is the grant.
local function pass_on(key, name_of_floor, before, queue, last, digest, channel)
  local floor = queue ~= '' and floor_of(name_of_floor)
  local fence = queue ~= '' and next_fence(clock(), floor, last)
  while queue ~= '' do
    local ticket, inbox = string.sub(queue, 1, 16), string.sub(queue, 18, 41)
    local asked = redis.call('HGET', key, ticket)
    queue = string.sub(queue, 43)
    if asked then
      local token, seq, ttl, linger, sole, metadata = cmsgpack.unpack(asked)
      redis.call('HDEL', key, ticket, 'm', 'n')
      redis.call('HSET', key, 't', token, 's', seq, 'f', int(fence), unpack(metadata and { 'm', metadata } or {}))
      if not floor then
        redis.call('HSET', key, 'n', 1)
      end
      requeue(key, before, queue)
      redis.call('PEXPIRE', key, ttl)
      if sole == '1' then
        raise_floor(name_of_floor, floor, fence, ttl + linger)
      end
      local text = message(6, digest, fence) .. struct.pack('>I8', tonumber(seq)) .. ticket
      if redis.call('PUBLISH', channel .. inbox, text) > 0 then
        return
      end
      before, floor = queue, floor_of(name_of_floor)
      fence = next_fence(fence, floor, fence)
    end
  end
  redis.call('UNLINK', key)
end
