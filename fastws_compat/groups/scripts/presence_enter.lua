-- Registers the sockets of a process in a group.
-- KEYS: pm, p, pn, pc:<process>, in:<process>. ARGV: ttl in s, a new epoch, the group, then for each socket its id,
-- its key, the info and "1" if the info replaces one.
-- pn has the number of sockets of each key that has more than one: most people need no field there.
-- Returns epoch, version, and the numbers of the sockets with which keys have joined and changed.
local meta, people, counts, sockets, groups = unpack(KEYS)
local ttl = tonumber(ARGV[1])
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) .. ' '
local joined, changed, step = {}, {}, 0
local sat, is_new = 0, false
for at = 4, #ARGV, 4 do
  local id, key, info, renewed = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local new = redis.call('HSETNX', sockets, id, key) == 1
  if new then sat = sat + 1 end
  if redis.call('HSETNX', people, key, since .. info) == 1 then
    joined[key], step = (at - 4) / 4, 1
  elseif new or renewed == '1' then
    if new and redis.call('HINCRBY', counts, key, 1) == 1 then
      redis.call('HSET', counts, key, 2)
      is_new = true
    end
    local known = redis.call('HGET', people, key)
    local space = string.find(known, ' ', 1, true)
    if string.sub(known, space + 1) ~= info then
      redis.call('HSET', people, key, string.sub(known, 1, space) .. info)
      local list = joined[key] and joined or changed
      list[key], step = (at - 4) / 4, 1
    end
  end
end
-- The first socket of a process in a group: its keys begin to exist, and those of the group may, too.
local is_first = redis.call('SADD', groups, ARGV[3]) == 1
local epoch = redis.call('HGET', meta, 'pe')
if not epoch then
  epoch = ARGV[2]
  redis.call('HSET', meta, 'pe', epoch, 'v', 0)
  is_new = true
end
local version = redis.call('HINCRBY', meta, 'v', step)
-- Keys expire anew when one of them begins to exist, and when a process registers its sockets again.
local again = sat < (#ARGV - 3) / 4
if is_new or is_first or again then
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ttl) end
end
local first, second = {}, {}
for _, at in pairs(joined) do first[#first + 1] = at end
for _, at in pairs(changed) do second[#second + 1] = at end
return {epoch, version, first, second}
