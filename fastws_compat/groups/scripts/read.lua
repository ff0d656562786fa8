-- Where the history of a group stands, and entries after an offset; or where several histories stand.
-- KEYS: m, s, st of each group
-- ARGV: 1 fresh epoch, 2 run id of the server ("" if it is not asked), 3 offset, 4 maximum number of entries,
--   5 age in ms, 6 TTL of m and st in s, 7 whether the state is wanted ("several": the answer is a list)
-- Answers: epoch, top, base, hole, first offset that is kept, entries, fields and values of the state; as one
--   MessagePack text, which clients parse much faster than nested lists. In a list, false stands for a group that
--   cannot be read.
local now = redis.call('TIME')
local oldest = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(ARGV[5])

local function read(m, s, st, fresh)
  local epoch, n, base, hole, run = unpack(redis.call('HMGET', m, 'e', 'n', 'b', 'h', 'r'))
  if not epoch then
    epoch, n, base, hole, run = fresh, 0, 0, -1, ARGV[2]
    redis.call('HSET', m, 'e', epoch, 'n', n, 'b', base, 'h', hole, 'r', run)
    redis.call('DEL', s)
  end
  hole = hole or n -- see mark.lua
  if ARGV[2] ~= '' and run ~= ARGV[2] then
    -- Another server: what it has may be older than what clients have seen of this epoch.
    epoch, base, hole = fresh, n, -1
    redis.call('HSET', m, 'e', epoch, 'b', base, 'h', hole, 'r', ARGV[2])
  end
  redis.call('EXPIRE', m, ARGV[6])
  redis.call('EXPIRE', st, ARGV[6])

  local first = n + 1
  while true do
    local entry = redis.call('XRANGE', s, '-', '+', 'COUNT', 1)[1]
    if not entry then
      break
    end
    if tonumber(entry[2][4]) >= oldest then
      first = string.match(entry[1], '^%d+')
      break
    end
    redis.call('XDEL', s, entry[1])
  end

  local entries, state = {}, {}
  if tonumber(ARGV[4]) > 0 and tonumber(ARGV[3]) < tonumber(n) then
    entries = redis.call('XRANGE', s, (tonumber(ARGV[3]) + 1) .. '-0', '+', 'COUNT', ARGV[4])
  end
  if ARGV[7] == '1' then
    state = redis.call('HGETALL', st)
  end
  return {epoch, tonumber(n), tonumber(base), tonumber(hole), tonumber(first), entries, state}
end

if ARGV[7] ~= 'several' then
  return cmsgpack.pack(read(KEYS[1], KEYS[2], KEYS[3], ARGV[1]))
end
local found = {}
for at = 1, #KEYS, 3 do
  -- Groups must not share an epoch.
  local fresh = string.sub(redis.sha1hex(ARGV[1] .. KEYS[at]), 1, 8)
  local is_read, reading = pcall(read, KEYS[at], KEYS[at + 1], KEYS[at + 2], fresh)
  found[#found + 1] = is_read and reading
end
return cmsgpack.pack(found)
