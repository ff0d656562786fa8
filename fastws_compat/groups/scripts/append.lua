-- Keep an entry at the next offset, and publish the message if the layer shares the server.
-- KEYS: m (hash), s (stream), st (hash of the state), k (what is known about the key; only if there is a key)
-- ARGV: 1 count, 2 age in ms, 3 TTL of m and st in s, 4 kind, 5 the channel to publish it on ("" for none),
--   6 whether it may have been appended before, 7 what was sent and is not kept: its sender and number, "-" if
--   it is still being sent, "" if there is nothing; 8 run id of the server ("" if it is not asked); 9 fresh epoch,
--   10 id, 11 data;
--   to publish it ("" or absent if not): 12 to 14 the parts of the message around epoch and offset;
--   "" or absent if there is none: 15 exclude, 16 key;
--   for a change of the state (absent if not): 17 field, 18 value, 19 maximum number of fields, 20 maximum bytes
-- Answers: epoch, offset and whether it is new (1 or 0), as one text, which clients parse faster than a list; or
--   the name of the limit that it would exceed.
local m, s, st, k = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, n, run, renewed, hole = unpack(redis.call('HMGET', m, 'e', 'n', 'r', 'x', 'h'))
local id, age, exclude, field, value = ARGV[10], tonumber(ARGV[2]), ARGV[15] or '', ARGV[17], ARGV[18]

if k then
  local known = redis.call('GET', k)
  if known then
    local by, e, o = string.match(known, '^(%S+) (%S+) (%S+)$')
    return e .. ' ' .. o .. (by == id and ' 1' or ' 0')
  end
end
if ARGV[6] == '1' and epoch then
  for _, entry in ipairs(redis.call('XREVRANGE', s, '+', '-', 'COUNT', 100)) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'i' and entry[2][i + 1] == id then
        return epoch .. ' ' .. string.match(entry[1], '^%d+') .. ' 1'
      end
    end
  end
end

local size
if field then
  local is_known, fields = redis.call('HEXISTS', st, field) == 1, redis.call('HLEN', st)
  size = fields == 0 and 0 or tonumber(redis.call('HGET', m, 'sb'))
  if not size then
    -- m was evicted and st was not.
    size = 0
    for _, each in ipairs(redis.call('HGETALL', st)) do
      size = size + #each
    end
  end
  if is_known then
    size = size - #field - redis.call('HSTRLEN', st, field)
  end
  if value ~= '' then
    if not is_known and fields >= tonumber(ARGV[19]) then
      return 'keys'
    end
    size = size + #field + #value
    if size > tonumber(ARGV[20]) then
      return 'bytes'
    end
  end
end

if not epoch then
  epoch, n, hole = ARGV[9], 0, -1
  redis.call('HSET', m, 'e', epoch, 'n', 0, 'b', 0, 'h', -1, 'r', ARGV[8])
  redis.call('DEL', s)
elseif ARGV[8] ~= '' and run ~= ARGV[8] then
  -- Another server: its offsets may have been given to other messages before.
  epoch, hole = ARGV[9], -1
  redis.call('HSET', m, 'e', epoch, 'b', n, 'h', -1, 'r', ARGV[8])
end
if ARGV[7] ~= '' or not hole then -- see mark.lua
  redis.call('HSET', m, 'h', n)
end
if ARGV[7] ~= '' and ARGV[7] ~= '-' then
  -- The newest known ones are enough: the others are reported once more.
  local unkept = redis.call('HGET', m, 'u') or ''
  redis.call('HSET', m, 'u', string.sub(ARGV[7] .. ' ' .. unkept, 1, 1000))
end
n = redis.call('HINCRBY', m, 'n', 1)

local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
if exclude == '' and not k then
  redis.call('XADD', s, 'MAXLEN', ARGV[1], n .. '-0', 'i', id, 't', now, 'k', ARGV[4], 'd', ARGV[11])
else
  local entry = {'i', id, 't', now, 'k', ARGV[4], 'd', ARGV[11]}
  if exclude ~= '' then
    entry[#entry + 1] = 'x'
    entry[#entry + 1] = exclude
  end
  if k then
    entry[#entry + 1] = 'y'
    entry[#entry + 1] = ARGV[16]
    redis.call('SET', k, id .. ' ' .. epoch .. ' ' .. n, 'PX', ARGV[2])
  end
  redis.call('XADD', s, 'MAXLEN', ARGV[1], n .. '-0', unpack(entry))
end
redis.call('PEXPIRE', s, ARGV[2])

if n % 8 == 0 then
  -- Two entries over age for each that was added since the last time. Reading one is cheap, and often enough.
  local found = redis.call('XRANGE', s, '-', '+', 'COUNT', 1)
  if found[1] and tonumber(found[1][2][4]) < now - age then
    found = redis.call('XRANGE', s, '-', '+', 'COUNT', 16)
  end
  for _, old in ipairs(found) do
    if tonumber(old[2][4]) >= now - age then
      break
    end
    redis.call('XDEL', s, old[1])
  end
end
local ttl = tonumber(ARGV[3])
if now - (tonumber(renewed or 0) or 0) > ttl * 50 then
  -- A twentieth of the TTL has passed since it was renewed here.
  redis.call('HSET', m, 'x', now)
  redis.call('EXPIRE', m, ttl)
  redis.call('EXPIRE', st, ttl)
end

if field then
  redis.call('HSET', m, 'sb', size)
  if value == '' then
    redis.call('HDEL', st, field)
  else
    redis.call('HSET', st, field, value)
    redis.call('EXPIRE', st, ttl)
  end
end

if ARGV[5] ~= '' then
  local place = string.format('%016d', n)
  redis.call('PUBLISH', ARGV[5], ARGV[12] .. epoch .. ARGV[13] .. place .. ARGV[14])
end
return {ok = epoch .. ' ' .. n .. ' 1'}
