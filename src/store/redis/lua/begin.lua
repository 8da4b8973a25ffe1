-- Sets the first states of hosts in a task. One that is there stays: what is repeated late undoes
-- nothing. KEYS[1] the hash. ARGV: host and state, by turns.
for i = 1, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PERSIST', KEYS[1])
return 1
