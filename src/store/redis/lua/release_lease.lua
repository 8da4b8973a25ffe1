-- Gives up a node's lease, if it is ours. KEYS[1]: the lease. ARGV: our number.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
