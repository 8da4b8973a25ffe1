-- Replaces a list by ARGV, the last first. KEYS[1]: the list. Without ARGV it is deleted.
redis.call('DEL', KEYS[1])
for first = 1, #ARGV, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
return #ARGV
