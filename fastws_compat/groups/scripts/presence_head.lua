-- Where rosters stand. KEYS: pm and p of each group.
-- Returns epoch, version, and the number of keys that are present, of one group after the other; as one MessagePack
-- text, which clients parse much faster than nested lists.
local found = {}
for at = 1, #KEYS, 2 do
  local head = redis.call('HMGET', KEYS[at], 'pe', 'v')
  found[#found + 1] = head[1] or ''
  found[#found + 1] = tonumber(head[2] or 0)
  found[#found + 1] = redis.call('HLEN', KEYS[at + 1])
end
return cmsgpack.pack(found)
