-- Renews a node's lease, if it is ours. KEYS[1]: the lease. ARGV: our number, lifetime in ms.
-- Returns whether it is ours.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
