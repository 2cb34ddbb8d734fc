-- Finds a usable record, leads a flight, or joins the one in the air.
--
-- KEYS  record, state
-- ARGV  owner, own inbox, lease (us), greatest fence followed so far, linger (us), '1' if the record cannot be used
--       (its body was of another key, or of no version that the caller knows)
-- Returns {1, fence, age}                                    hit
--         {2, fence, failures, stale fence or 0, its age}    lead
--         {3, fence, lease left (us)}                        follow
--         {4, fence, age}                                    stale: somebody else refreshes
--         {5, us}                                            scatter
--         {6}                                                poisoned

local owner, inbox = ARGV[1], ARGV[2]
local now = clock()
local record = seen(KEYS[1])
-- The fence of a record counts even if its body cannot be used: the record that replaces it must have a greater one.
local usable = record and ARGV[6] ~= '1'
if usable then
  local followed = tonumber(ARGV[4])
  if (followed > 0 and record.fence >= followed) or record.age < record.fresh then
    return { 1, record.fence, record.age }
  end
end
local stale = usable and record.age < record.fresh + record.stale

local state = ours('HMGET', KEYS[2], 'f', 'o', 'd', 'n', 'k', 'u', 'w')
local fence = math.max(tonumber(state[1] or 0), record and record.fence or 0)
local failures, dead = tonumber(state[4] or 0), tonumber(state[5] or 0)
local scatter = tonumber(state[6] or 0)
if scatter > now then
  return { 5, scatter - now }
end

local function lead()
  return { 2, fence, failures, stale and record.fence or 0, stale and record.age or 0 }
end

if state[2] then
  if state[2] == owner then
    -- A retry: its first reply was lost.
    return lead()
  end
  local left = (tonumber(state[3]) or 0) - now
  if left > 0 then
    if failures >= 2 and not stale then
      return { 6 }
    end
    if stale then
      return { 4, record.fence, record.age }
    end
    -- The inbox is noted in the same step in which the caller learns that it follows: nothing can land in between.
    local waiting = state[7] or ''
    if not string.find(waiting, inbox, 1, true) then
      redis.call('HSET', KEYS[2], 'w', waiting .. inbox .. ' ')
    end
    return { 3, fence, left }
  end
  failures, dead = failures + 1, dead + 1
  if dead >= 3 then
    redis.call('HSET', KEYS[2], 'n', failures, 'k', dead)
    redis.call('HDEL', KEYS[2], 'o', 'i', 'd')
  end
end
if dead >= 3 then
  return { 6 }
end

fence = math.max(now, fence + 1)
local deadline = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[2], 'f', int(fence), 'o', owner, 'i', inbox, 'd', int(deadline), 'n', failures, 'k', dead)
keep(KEYS[2], now, math.max(deadline, now + (record and record.left or 0)) + tonumber(ARGV[5]))
return lead()
