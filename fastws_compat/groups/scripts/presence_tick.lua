-- Renews the lease of a process. KEYS: leases, tokens, seen, in:<process>.
-- ARGV: the process, the lease in ms, a new token, the ttl in s.
-- Returns the token of the process, and processes whose lease is over.
local leases, tokens, seen, groups = unpack(KEYS)
local process, lease = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last, quiet = unpack(redis.call('HMGET', seen, 'last', 'quiet'))
-- If nobody came for half a lease, the store was away, and everybody has a whole lease to come back.
if not last or now - last > lease / 2 then quiet = now + lease end
redis.call('HSET', seen, 'last', now, 'quiet', quiet)
redis.call('HSETNX', tokens, process, ARGV[3])
redis.call('ZADD', leases, now + lease, process)
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[4]) end
local dead = {}
local at = string.find(groups, process, 1, true)
local head, tail = string.sub(groups, 1, at - 1), string.sub(groups, at + #process)
if now >= tonumber(quiet) then
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do
    if redis.call('EXISTS', head .. other .. tail) == 1 then
      dead[#dead + 1] = other
    else
      redis.call('ZREM', leases, other)
      redis.call('HDEL', tokens, other)
    end
  end
end
return {redis.call('HGET', tokens, process), dead}
