-- Sets states of hosts in a task: of those that are named in it, and have not ended for good. KEYS[1] the
-- hash. ARGV: host and state, by turns.
for i = 1, #ARGV, 2 do
  local was = redis.call('HGET', KEYS[1], ARGV[i])
  if was and was ~= 'done' and was ~= 'failed' and was ~= ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
