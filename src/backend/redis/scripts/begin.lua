-- Finds a usable record, leads a flight, or joins the one in the air.
--
-- KEYS  record, state; of a variant also the state of its primary
-- ARGV  owner, own inbox, lease (us), greatest fence followed so far, linger (us), '1' if the record cannot be used
--       (its body was of another key, or of no version that the caller knows)
-- Returns {1, fence, age}                                    hit
--         {2, fence, failures, previous fence or 0, its age} lead
--         {3, fence, lease left (us)}                        follow
--         {4, fence, age}                                    stale: somebody else refreshes
--         {5, us}                                            scatter
--         {6}                                                poisoned

local owner, inbox, linger = ARGV[1], ARGV[2], tonumber(ARGV[5])
local primary = KEYS[3]
local now = clock()
local floor, greatest = family(primary)
local record = seen(KEYS[1])
-- The fence of a record counts even if its body cannot be used: the record that replaces it must have a greater one.
local usable = record and record.fence > floor and ARGV[6] ~= '1'
if usable then
  local followed = tonumber(ARGV[4])
  if (followed > 0 and record.fence >= followed) or record.age < record.fresh then
    return { 1, record.fence, record.age }
  end
end
local stale = usable and record.age < record.fresh + record.stale

local state = ours('HMGET', KEYS[2], 'f', 'o', 'd', 'n', 'k', 'u', 'w', 'v')
local fence = math.max(tonumber(state[1] or 0), record and record.fence or 0)
local leader, deadline = state[2], tonumber(state[3]) or 0
local failures, dead = tonumber(state[4] or 0), tonumber(state[5] or 0)
local waiting = state[7] or ''
local scatter = tonumber(state[6] or 0)
if scatter > now then
  return { 5, scatter - now }
end
if tonumber(state[1] or 0) <= floor then
  -- The family was invalidated since, and those who wait have heard of it.
  leader, waiting = false, ''
elseif state[8] and deadline + linger < now then
  -- Only its variants have kept this state alive: what it says of flights is to be forgotten.
  leader, waiting, failures, dead = false, '', 0, 0
end

local function lead()
  return { 2, fence, failures, usable and record.fence or 0, usable and record.age or 0 }
end

if leader then
  if leader == owner then
    -- A retry: its first reply was lost.
    return lead()
  end
  local left = deadline - now
  if left > 0 then
    if failures >= 2 and not stale then
      return { 6 }
    end
    if stale then
      return { 4, record.fence, record.age }
    end
    -- The inbox is noted in the same step in which the caller learns that it follows: nothing can land in between.
    if not string.find(waiting, inbox, 1, true) then
      redis.call('HSET', KEYS[2], 'w', waiting .. inbox .. ' ')
    end
    if primary then
      note(primary, inbox)
    end
    return { 3, fence, left }
  end
  failures, dead = failures + 1, dead + 1
  if dead >= 3 then
    redis.call('HSET', KEYS[2], 'n', failures, 'k', dead)
    redis.call('HDEL', KEYS[2], 'o', 'i')
  end
end
if dead >= 3 then
  return { 6 }
end

fence = math.max(now, fence + 1, greatest + 1)
deadline = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[2], 'f', int(fence), 'o', owner, 'i', inbox, 'd', int(deadline), 'n', failures, 'k', dead)
if waiting == '' and state[7] then
  redis.call('HDEL', KEYS[2], 'w')
end
local till = math.max(deadline, now + (record and record.left or 0)) + linger
keep(KEYS[2], now, till)
if primary then
  rise(primary, floor, fence)
  note(primary, inbox)
  keep(primary, now, till)
end
return lead()
