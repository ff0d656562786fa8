-- Where a roster stands. KEYS: m, p. Returns epoch, version, and the number of keys that are present.
local head = redis.call('HMGET', KEYS[1], 'pe', 'v')
return {head[1] or '', tonumber(head[2] or 0), redis.call('HLEN', KEYS[2])}
