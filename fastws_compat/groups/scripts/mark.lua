-- Begin a new epoch, or note a hole. Without "h", the hole is at the newest offset, until the next entry is kept:
-- a server that is full can delete this field, but not change it.
-- KEYS: m, s, st
-- ARGV: 1 fresh epoch, 2 run id of the server ("" if it is not asked), 3 what to do (epoch, hole, clear), 4 epoch that
--   it is about ("" for any), 5 top, 6 TTL in s; for a hole: 7 sender and number of the message that is not kept ("-"
--   if it is still being sent), 8 the newest offset that the reporting process had received before it ("" if it has
--   sent it)
local m = KEYS[1]
local epoch, n = unpack(redis.call('HMGET', m, 'e', 'n'))
if not epoch then
  epoch, n = ARGV[1], 0
  redis.call('HSET', m, 'e', epoch, 'n', 0, 'b', 0, 'h', -1, 'r', ARGV[2])
  redis.call('DEL', KEYS[2])
end
if ARGV[3] == 'clear' then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', m, 'e', ARGV[1], 'b', n, 'h', -1, 'sb', 0)
elseif ARGV[4] == '' or ARGV[4] == epoch then
  if ARGV[3] == 'hole' then
    -- Fails if appending fails because of these keys: who notes a hole, learns whether the group works again.
    redis.call('XLEN', KEYS[2])
    redis.call('HLEN', KEYS[3])
    local hole, unkept = unpack(redis.call('HMGET', m, 'h', 'u'))
    unkept = unkept or ''
    local written = redis.pcall('HSET', m, 'u', unkept)
    if type(written) == 'table' then
      redis.call('HDEL', m, 'h')
      return written -- an error
    end
    local sender, number = string.match(ARGV[7], '^(.*)%.(%d+)$')
    local at = n
    if sender then
      local known
      for each, newest in string.gmatch(unkept, '(%S+)%.(%d+)') do
        known = known or (each == sender and tonumber(newest) >= tonumber(number))
      end
      if not known then
        redis.call('HSET', m, 'u', string.sub(ARGV[7] .. ' ' .. unkept, 1, 1000))
      elseif ARGV[8] ~= '' then
        at = math.min(n, ARGV[8])
      end
    end
    if not hole or tonumber(at) > tonumber(hole) then
      redis.call('HSET', m, 'h', hole and at or n)
    end
  elseif tonumber(n) < tonumber(ARGV[5]) then
    redis.call('HSET', m, 'e', ARGV[1], 'b', n, 'h', -1)
  end
end
redis.call('EXPIRE', m, ARGV[6])
return 1
