-- Takes a lock, or a place among those who wait for it.
--
-- KEYS  lock, floor
-- ARGV  token, its request, lease (ms), linger (ms), '1' if this node alone decides, ticket and inbox of who waits (or
--       both empty), metadata if there is any
-- Returns {1, fence}                             granted
--         {2, lease left (ms), metadata or nil}  taken
--         {3, us}                                another's turn

local token, ticket, inbox, metadata = ARGV[1], ARGV[6], ARGV[7], ARGV[8]
local state = ours('HMGET', KEYS[1], 't', 's', 'f', 'm', 'w', 'r', 'u')
local held, queue = state[1], state[5] or ''
local now = clock()

local refusal
if held and (held ~= token or tonumber(state[2]) > tonumber(ARGV[2])) then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 then
    refusal = { 2, left, state[4] }
  else
    -- A lock without an end is none of ours, or one whose grant failed half-way: it would be held for ever.
    redis.call('UNLINK', KEYS[1])
    state, held, queue = {}, nil, ''
  end
elseif state[6] and state[6] ~= ticket and (tonumber(state[7]) or 0) > now then
  refusal = { 3, tonumber(state[7]) - now }
end
if refusal then
  if ticket ~= '' then
    -- Noted in the same step in which the caller learns that it waits: no release can come in between.
    requeue(KEYS[1], queue, with(queue, ticket, inbox))
  end
  return refusal
end

local floor = floor_of(KEYS[2])
local fence = held and tonumber(state[3]) or math.max(now, (floor or 0) + 1)
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
end
if state[6] then
  redis.call('HDEL', KEYS[1], 'r', 'u')
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
requeue(KEYS[1], queue, without(queue, ticket))
if ARGV[5] == '1' then
  raise_floor(KEYS[2], floor, fence, ARGV[3] + ARGV[4])
end
return { 1, fence }
