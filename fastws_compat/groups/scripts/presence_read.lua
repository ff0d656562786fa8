-- Reads a page of those who are present. KEYS: pm, p, pn. ARGV: the cursor, the size of the page.
-- Returns epoch, version, the next cursor, and for each key its name, since when and what, and its sockets.
-- All of it is one MessagePack text, which clients parse much faster than nested lists.
-- The version is no newer than the page: diffs that the page contains already can be applied to it again.
local head = redis.call('HMGET', KEYS[1], 'pe', 'v')
local scan = redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2])
local page, found, names, counts = scan[2], {}, {}, {}
for at = 1, #page, 2 do
  names[#names + 1] = page[at]
end
if #names > 0 then
  counts = redis.call('HMGET', KEYS[3], unpack(names))
end
for number, name in ipairs(names) do
  found[number * 3 - 2] = name
  found[number * 3 - 1] = page[number * 2]
  found[number * 3] = counts[number] or '1'
end
return cmsgpack.pack({head[1] or '', tonumber(head[2] or 0), scan[1], found})
