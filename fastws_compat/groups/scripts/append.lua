-- Keep an entry at the next offset, and publish the message if the layer shares the server.
-- KEYS: m (hash), s (stream), st (hash of the state), k (what is known about the key; only if there is a key)
-- ARGV: 1 fresh epoch, 2 whether it may have been appended before, 3 what was sent and is not kept: its sender
--   and number, "-" if it is still being sent, "" if there is nothing,
--   4 count, 5 age in ms, 6 TTL of m and st in s, 7 id, 8 kind, 9 data, 10 exclude, 11 key;
--   to publish it ("" or absent if not): 12 channel, 13 to 15 the parts of the message around epoch and offset;
--   for a change of the state (absent if not): 16 field, 17 value, 18 maximum number of fields, 19 maximum bytes
-- Answers: epoch, offset and whether it is new (1 or 0), as one text, which clients parse faster than a list; or
--   the name of the limit that it would exceed.
local m, s, st, k = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, n, renewed, hole = unpack(redis.call('HMGET', m, 'e', 'n', 'x', 'h'))
local id, age, field, value = ARGV[7], tonumber(ARGV[5]), ARGV[16], ARGV[17]

if k then
  local known = redis.call('GET', k)
  if known then
    local by, e, o = string.match(known, '^(%S+) (%S+) (%S+)$')
    return e .. ' ' .. o .. (by == id and ' 1' or ' 0')
  end
end
if ARGV[2] == '1' and epoch then
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
    if not is_known and fields >= tonumber(ARGV[18]) then
      return 'keys'
    end
    size = size + #field + #value
    if size > tonumber(ARGV[19]) then
      return 'bytes'
    end
  end
end

if not epoch then
  epoch, n, hole = ARGV[1], 0, -1
  redis.call('HSET', m, 'e', epoch, 'n', 0, 'b', 0, 'h', -1, 'r', '')
  redis.call('DEL', s)
end
if ARGV[3] ~= '' or not hole then -- see mark.lua
  redis.call('HSET', m, 'h', n)
end
if ARGV[3] ~= '' and ARGV[3] ~= '-' then
  -- The newest known ones are enough: the others are reported once more.
  local unkept = redis.call('HGET', m, 'u') or ''
  redis.call('HSET', m, 'u', string.sub(ARGV[3] .. ' ' .. unkept, 1, 1000))
end
n = redis.call('HINCRBY', m, 'n', 1)

local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
if ARGV[10] == '' and not k then
  redis.call('XADD', s, 'MAXLEN', ARGV[4], n .. '-0', 'i', id, 't', now, 'k', ARGV[8], 'd', ARGV[9])
else
  local entry = {'i', id, 't', now, 'k', ARGV[8], 'd', ARGV[9]}
  if ARGV[10] ~= '' then
    entry[#entry + 1] = 'x'
    entry[#entry + 1] = ARGV[10]
  end
  if k then
    entry[#entry + 1] = 'y'
    entry[#entry + 1] = ARGV[11]
    redis.call('SET', k, id .. ' ' .. epoch .. ' ' .. n, 'PX', ARGV[5])
  end
  redis.call('XADD', s, 'MAXLEN', ARGV[4], n .. '-0', unpack(entry))
end
redis.call('PEXPIRE', s, ARGV[5])

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
local ttl = tonumber(ARGV[6])
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

if ARGV[12] and ARGV[12] ~= '' then
  local place = string.format('%016d', n)
  redis.call('PUBLISH', ARGV[12], ARGV[13] .. epoch .. ARGV[14] .. place .. ARGV[15])
end
return {ok = epoch .. ' ' .. n .. ' 1'}
