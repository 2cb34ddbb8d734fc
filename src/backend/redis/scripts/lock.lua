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
local PLACES, LEAP = 1024, 2 ^ 32

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

-- Raises the floor to `fence`, unless it is higher, and lets it live for `left` ms.
local function raise_floor(key, floor, fence, left)
  redis.call('SET', key, int(math.max(floor or 0, fence)), 'PX', int(left))
end

-- Tells an inbox of this server that the lock is its own; returns whether somebody hears. A replica must not pass it on: who
-- hears there, where it lost its primary, would believe what is granted to another one here.
local function hears(channel, text)
  redis.set_repl(redis.REPL_NONE)
  local heard = redis.call('PUBLISH', channel, text)
  redis.set_repl(redis.REPL_ALL)
  return heard > 0
end

-- Grants the lock to the first of those in `queue` whose inbox hears; `state` is who held it. Its fence is never below the
-- floor, so the next one is above it. `floored` is '1' if the floor that was its own is gone. The message goes out when the
-- lock is written: it is the grant. What nobody has heard of is written over, so the floor waits for the one that did.
local function pass_on(key, floor, state, floored, queue, digest, channel)
  local fence, gone = tonumber(state[3]) + 1, {}
  while queue ~= '' do
    local ticket, inbox = string.sub(queue, 1, 16), string.sub(queue, 18, 41)
    local asked = redis.call('HGET', key, ticket)
    queue = string.sub(queue, 43)
    gone[#gone + 1] = ticket
    if asked then
      local token, seq, ttl, linger, sole, metadata = cmsgpack.unpack(asked)
      local fields = { 't', token, 's', seq, 'f', int(fence) }
      local function set(field, value)
        if value then
          fields[#fields + 1] = field
          fields[#fields + 1] = value
        else
          gone[#gone + 1] = field
        end
      end
      set('m', metadata)
      set('n', floored)
      set('w', queue ~= '' and queue)
      redis.call('HDEL', key, unpack(gone))
      redis.call('HSET', key, unpack(fields))
      redis.call('PEXPIRE', key, ttl)
      if hears(channel .. inbox, message(6, digest, fence) .. struct.pack('>I8', tonumber(seq)) .. ticket) then
        if sole == '1' then
          raise_floor(floor, nil, fence, ttl + linger)
        end
        return
      end
      gone = {}
    end
  end
  redis.call('UNLINK', key)
end
