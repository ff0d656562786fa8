-- Removes sockets of a process from a group, or a batch of them once the lease of the process is over.
-- KEYS: pm, p, pn, pc:<process>, in:<process>, leases, tokens.
-- ARGV: a new epoch, the group, the process, the size of the batch ("0": the sockets that follow), ids of sockets.
-- Returns epoch, version, the keys that have left, each with its value, and the number of sockets that remain.
local meta, people, counts, sockets, groups, leases, tokens = unpack(KEYS)
local size = tonumber(ARGV[4])
local ids = {}
for at = 5, #ARGV do ids[#ids + 1] = ARGV[at] end
if size > 0 then
  local time = redis.call('TIME')
  local ends = redis.call('ZSCORE', leases, ARGV[3])
  if ends and tonumber(ends) > time[1] * 1000 + math.floor(time[2] / 1000) then return {'', 0, {}, 0} end
  redis.call('HDEL', tokens, ARGV[3]) -- if the process lives after all, it has to register its sockets again
  local cursor = '0'
  repeat -- a page is empty if the batches before have emptied its part of the table
    local scan = redis.call('HSCAN', sockets, cursor, 'COUNT', size)
    cursor = scan[1]
    for at = 1, #scan[2], 2 do ids[#ids + 1] = scan[2][at] end
  until #ids > 0 or cursor == '0'
end
local left = {}
for _, id in ipairs(ids) do
  local key = redis.call('HGET', sockets, id)
  if key then
    redis.call('HDEL', sockets, id)
    local count = redis.call('HGET', counts, key)
    if count == '2' then
      redis.call('HDEL', counts, key) -- one is not counted
    elseif count then
      redis.call('HINCRBY', counts, key, -1)
    else
      local known = redis.call('HGET', people, key)
      if known then
        redis.call('HDEL', people, key)
        left[#left + 1] = key
        left[#left + 1] = known
      end
    end
  end
end
local remaining = redis.call('HLEN', sockets)
if remaining == 0 then
  redis.call('SREM', groups, ARGV[2])
  if size > 0 and redis.call('EXISTS', groups) == 0 then redis.call('ZREM', leases, ARGV[3]) end
end
local epoch = redis.call('HGET', meta, 'pe')
if not epoch then
  epoch = ARGV[1]
  redis.call('HSET', meta, 'pe', epoch, 'v', 0)
  redis.call('EXPIRE', meta, 86400)
end
local version = redis.call('HINCRBY', meta, 'v', #left > 0 and 1 or 0)
return {epoch, version, left, remaining}
