-- Adds packed transitions of a host. KEYS[1]: the string. ARGV: the transitions, the greatest length in
-- bytes, and the time to live in ms, 0 for none. A transition is 8 bytes, and sorts by time.
local seen, list = {}, {}
for _, bytes in ipairs({redis.call('GET', KEYS[1]) or '', ARGV[1]}) do
  for i = 1, #bytes - 7, 8 do
    local one = string.sub(bytes, i, i + 7)
    if not seen[one] then
      seen[one] = true
      list[#list + 1] = one
    end
  end
end
table.sort(list)
local first = math.max(1, #list - tonumber(ARGV[2]) / 8 + 1)
local all = table.concat(list, '', first)
if all == '' then
  return 0
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], all)
else
  redis.call('SET', KEYS[1], all, 'PX', ARGV[3])
end
return #all
