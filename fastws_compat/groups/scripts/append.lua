-- Keep an entry at the next offset, and publish it if the layer shares the server.
-- KEYS: m (hash), s (stream), st (hash of the state), k (what is known about the key)
-- ARGV: 1 fresh epoch, 2 id, 3 kind, 4 data, 5 exclude, 6 key, 7 count, 8 age in ms, 9 TTL of m and st in s,
--   10 whether it may have been appended before, 11 whether something was sent that is not kept,
--   12 field, 13 value, 14 maximum number of fields, 15 maximum bytes of the state ("" for entries of messages),
--   16 channel, 17 to 19 the parts of the published message around epoch and offset
-- Answers: epoch, offset, 1 if it is new; or the name of the limit that it would exceed.
local m, s, st, k = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, n = unpack(redis.call('HMGET', m, 'e', 'n'))

if ARGV[6] ~= '' then
  local known = redis.call('GET', k)
  if known then
    local id, e, o = string.match(known, '^(%S+) (%S+) (%S+)$')
    return {e, tonumber(o), id == ARGV[2] and 1 or 0}
  end
end
if ARGV[10] == '1' and epoch then
  for _, entry in ipairs(redis.call('XREVRANGE', s, '+', '-', 'COUNT', 100)) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'i' and entry[2][i + 1] == ARGV[2] then
        return {epoch, tonumber(string.match(entry[1], '^%d+')), 1}
      end
    end
  end
end

local size
if ARGV[15] ~= '' and ARGV[13] ~= '' then
  size = tonumber(redis.call('HGET', m, 'sb') or '0') or 0
  if redis.call('HLEN', st) == 0 then
    size = 0
  end
  if redis.call('HEXISTS', st, ARGV[12]) == 1 then
    size = size - #ARGV[12] - redis.call('HSTRLEN', st, ARGV[12])
  elseif redis.call('HLEN', st) >= tonumber(ARGV[14]) then
    return {'keys'}
  end
  size = size + #ARGV[12] + #ARGV[13]
  if size > tonumber(ARGV[15]) then
    return {'bytes'}
  end
end

local fresh = not epoch
if fresh then
  epoch, n = ARGV[1], 0
  redis.call('HSET', m, 'e', epoch, 'n', 0, 'b', 0, 'h', -1, 'r', '')
  redis.call('DEL', s)
end
if ARGV[11] == '1' then
  redis.call('HSET', m, 'h', n)
end
n = redis.call('HINCRBY', m, 'n', 1)

local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local entry = {'i', ARGV[2], 't', now, 'k', ARGV[3], 'd', ARGV[4]}
if ARGV[5] ~= '' then
  entry[#entry + 1] = 'x'
  entry[#entry + 1] = ARGV[5]
end
if ARGV[6] ~= '' then
  entry[#entry + 1] = 'y'
  entry[#entry + 1] = ARGV[6]
  redis.call('SET', k, ARGV[2] .. ' ' .. epoch .. ' ' .. n, 'PX', ARGV[8])
end
redis.call('XADD', s, 'MAXLEN', ARGV[7], n .. '-0', unpack(entry))
for _, old in ipairs(redis.call('XRANGE', s, '-', '+', 'COUNT', 2)) do
  if tonumber(old[2][4]) < now - tonumber(ARGV[8]) then
    redis.call('XDEL', s, old[1])
  end
end
redis.call('PEXPIRE', s, ARGV[8])
redis.call('EXPIRE', m, ARGV[9])

if ARGV[15] ~= '' then
  if size then
    redis.call('HSET', st, ARGV[12], ARGV[13])
    redis.call('HSET', m, 'sb', size)
  elseif redis.call('HEXISTS', st, ARGV[12]) == 1 then
    redis.call('HINCRBY', m, 'sb', -(#ARGV[12] + redis.call('HSTRLEN', st, ARGV[12])))
    redis.call('HDEL', st, ARGV[12])
  end
end
redis.call('EXPIRE', st, ARGV[9])

if ARGV[16] ~= '' then
  local place = string.format('%016d', n)
  redis.call('PUBLISH', ARGV[16], ARGV[17] .. epoch .. ARGV[18] .. place .. ARGV[19])
end
return {epoch, n, 1}
