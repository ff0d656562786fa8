-- Registers the sockets of a process in a group.
-- KEYS: m, p, pn, pc:<process>, in:<process>. ARGV: ttl in s, a new epoch, the group, then for each socket its id,
-- its key, the info and "1" if the info replaces one.
-- Returns epoch, version, and the numbers of the sockets with which keys have joined and changed.
local meta, people, counts, sockets, groups = unpack(KEYS)
local time = redis.call('TIME')
local since = time[1] .. string.format('%03d', math.floor(time[2] / 1000)) .. ' '
local joined, changed = {}, {}
for at = 4, #ARGV, 4 do
  local id, key, info, renewed = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local new = redis.call('HSETNX', sockets, id, key) == 1
  if new then redis.call('HINCRBY', counts, key, 1) end
  local known = redis.call('HGET', people, key)
  if not known then
    redis.call('HSET', people, key, since .. info)
    joined[key] = (at - 4) / 4
  elseif new or renewed == '1' then
    local space = string.find(known, ' ', 1, true)
    if string.sub(known, space + 1) ~= info then
      redis.call('HSET', people, key, string.sub(known, 1, space) .. info)
      local list = joined[key] and joined or changed
      list[key] = (at - 4) / 4
    end
  end
end
if #ARGV > 3 then redis.call('SADD', groups, ARGV[3]) end
local epoch = redis.call('HGET', meta, 'pe')
if not epoch then
  epoch = ARGV[2]
  redis.call('HSET', meta, 'pe', epoch, 'v', 0)
end
local first, second = {}, {}
for _, at in pairs(joined) do first[#first + 1] = at end
for _, at in pairs(changed) do second[#second + 1] = at end
local step = (#first + #second > 0) and 1 or 0
local version = redis.call('HINCRBY', meta, 'v', step)
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) < tonumber(ARGV[1]) then redis.call('EXPIRE', key, ARGV[1]) end
end
return {epoch, version, first, second}
