-- Adds finished commands that the list does not have, in order. KEYS[1]: the list.
-- ARGV: greatest length, then the commands. Returns the whole list.
local list = redis.call('LRANGE', KEYS[1], 0, -1)
local known = {}
for _, command in ipairs(list) do
  known[command] = true
end
local room = tonumber(ARGV[1])
for i = 2, #ARGV do
  if not known[ARGV[i]] and #list < room then
    redis.call('RPUSH', KEYS[1], ARGV[i])
    known[ARGV[i]] = true
    list[#list + 1] = ARGV[i]
  end
end
return list
