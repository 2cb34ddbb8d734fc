-- Takes a lock, or a place among those who wait for it.
--
-- KEYS  lock, floor
-- ARGV  token, its request, lease (ms), linger (ms), '1' if this node alone decides, ticket and inbox of who waits (or
--       both empty), metadata if there is any
-- Returns {1, fence}                             granted
--         {2, lease left (ms), metadata or nil}  taken

local token, ticket, inbox, metadata = ARGV[1], ARGV[6], ARGV[7], ARGV[8]
local state = ours('HMGET', KEYS[1], 't', 's', 'f', 'm', 'n', 'w')
local held, queue, seq = state[1], state[6] or '', tonumber(ARGV[2])

if held and (held ~= token or tonumber(state[2]) > seq) then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 then
    -- Noted in the same step in which the caller learns that it waits: no release can come in between. Who holds the lock
    -- does not wait for it: that is a request which comes late.
    if ticket ~= '' and held ~= token then
      local at = find(queue, ticket)
      local asked = at and redis.call('HGET', KEYS[1], ticket)
      local _, noted = cmsgpack.unpack(asked or cmsgpack.pack('', '0'))
      if at and tonumber(noted) <= seq then
        queue = string.sub(queue, 1, at + 16) .. inbox .. string.sub(queue, at + 41)
      elseif not at and #queue < PLACES * 42 then
        queue, at = queue .. ticket .. ':' .. inbox .. ' ', #queue
      else
        at = nil
      end
      if at then
        local asks = cmsgpack.pack(token, ARGV[2], ARGV[3], ARGV[4], ARGV[5], metadata)
        redis.call('HSET', KEYS[1], 'w', queue, ticket, asks)
      end
    end
    return { 2, left, state[4] }
  end
  -- A lock without an end is none of ours, or one whose grant failed half-way: it would be held for ever.
  redis.call('UNLINK', KEYS[1])
  state, held, queue = {}, nil, ''
end

local floor = floor_of(KEYS[2])
local fence = held and tonumber(state[3]) or math.max(clock(), (floor or 0) + 1)
local fields = { 't', token, 's', ARGV[2], 'f', int(fence) }
local function add(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
if metadata then
  add('m', metadata)
elseif state[4] then
  redis.call('HDEL', KEYS[1], 'm')
end
if not held and not floor then
  add('n', 1)
elseif state[5] and tonumber(state[2]) ~= seq then
  -- What an earlier attempt was granted may have been held: whoever undoes this one leaves the floor.
  redis.call('HDEL', KEYS[1], 'n')
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
requeue(KEYS[1], state[6] or '', leave(KEYS[1], queue, ticket))
if ARGV[5] == '1' then
  raise_floor(KEYS[2], floor, fence, ARGV[3] + ARGV[4])
end
return { 1, fence }
