-- Sets states of hosts in a task, of hosts that the task names and whose present state permits that.
-- KEYS[1]: the hash. ARGV: host, state, and the states that it may follow, each between blanks; alternating.
for i = 1, #ARGV, 3 do
  local was = redis.call('HGET', KEYS[1], ARGV[i])
  if was and was ~= ARGV[i + 1] and string.find(ARGV[i + 2], ' ' .. was .. ' ', 1, true) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
