-- Sets the first states of hosts in a task. An existing state stays, so that a late repetition undoes
-- nothing. KEYS[1]: the hash. ARGV: host and state, alternating.
for i = 1, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PERSIST', KEYS[1])
return 1
