-- Updates the remaining commands. KEYS[1]: the list, the last command first.
-- ARGV: '1' to replace it, '0' to only remove from it (it is replaced all the same if it shares no open
-- command with the message); number of remaining commands; these; then the finished ones.
-- Returns the whole list.
local left = tonumber(ARGV[2])
local done = {}
for i = 3 + left, #ARGV do
  done[ARGV[i]] = true
end
local said, open = {}, {}
for i = 2 + left, 3, -1 do
  if not done[ARGV[i]] and not said[ARGV[i]] then
    said[ARGV[i]] = true
    open[#open + 1] = ARGV[i]
  end
end
local list = redis.call('LRANGE', KEYS[1], 0, -1)
local wanted = {}
if ARGV[1] == '0' then
  for _, command in ipairs(list) do
    if said[command] then
      wanted[#wanted + 1] = command
    end
  end
end
if #wanted == 0 then
  wanted = open
end
local same = #wanted == #list
for i = 1, #wanted do
  same = same and wanted[i] == list[i]
end
if not same then
  redis.call('DEL', KEYS[1])
  for first = 1, #wanted, 1000 do
    redis.call('RPUSH', KEYS[1], unpack(wanted, first, math.min(first + 999, #wanted)))
  end
end
return wanted
