-- Adds finished commands that the list does not have, in order. KEYS[1]: the list.
-- ARGV: greatest length, greatest number of bytes, then the commands. Returns the whole list.
local list = redis.call('LRANGE', KEYS[1], 0, -1)
local known = {}
local bytes = 0
for _, command in ipairs(list) do
  known[command] = true
  bytes = bytes + #command
end
local room = tonumber(ARGV[1])
local most = tonumber(ARGV[2])
for i = 3, #ARGV do
  local command = ARGV[i]
  if not known[command] and #list < room and bytes + #command <= most then
    redis.call('RPUSH', KEYS[1], command)
    known[command] = true
    bytes = bytes + #command
    list[#list + 1] = command
  end
end
return list
