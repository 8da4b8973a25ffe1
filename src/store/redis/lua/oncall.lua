-- Brings the commands not yet done up to date. KEYS[1] the list, the last command first.
-- ARGV: '1' to set it, '0' to only take from it (set all the same where there is no list); how many
-- commands are left; those; then those that are done.
-- Returns whether it changed, and all of the list.
local left = tonumber(ARGV[2])
local done = {}
for i = 3 + left, #ARGV do
  done[ARGV[i]] = true
end
local list = redis.call('LRANGE', KEYS[1], 0, -1)
local wanted = {}
if ARGV[1] == '1' or #list == 0 then
  local seen = {}
  for i = 2 + left, 3, -1 do
    if not done[ARGV[i]] and not seen[ARGV[i]] then
      seen[ARGV[i]] = true
      wanted[#wanted + 1] = ARGV[i]
    end
  end
else
  local named = {}
  for i = 3, 2 + left do
    named[ARGV[i]] = true
  end
  for _, command in ipairs(list) do
    if named[command] and not done[command] then
      wanted[#wanted + 1] = command
    end
  end
end
local same = #wanted == #list
for i = 1, #wanted do
  same = same and wanted[i] == list[i]
end
if same then
  return {0, list}
end
redis.call('DEL', KEYS[1])
for first = 1, #wanted, 1000 do
  redis.call('RPUSH', KEYS[1], unpack(wanted, first, math.min(first + 999, #wanted)))
end
return {1, wanted}
