-- Reads a page of those who are present. KEYS: m, p, pn. ARGV: the cursor, the size of the page.
-- Returns epoch, version, the next cursor, and for each key its name, since when and what, and its sockets.
-- The version is no newer than the page: diffs that the page contains already can be applied to it again.
local head = redis.call('HMGET', KEYS[1], 'pe', 'v')
local scan = redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2])
local page, found = scan[2], {}
for at = 1, #page, 2 do
  found[#found + 1] = page[at]
  found[#found + 1] = page[at + 1]
  found[#found + 1] = redis.call('HGET', KEYS[3], page[at]) or '1'
end
return {head[1] or '', tonumber(head[2] or 0), scan[1], found}
