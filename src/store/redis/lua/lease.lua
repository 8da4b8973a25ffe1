-- Checks a node's lease. KEYS[1]: the lease. ARGV: our number, lifetime in ms, '1' to take it from its
-- holder. Returns 0 if it was ours and is renewed, 1 if it was taken, else 2 and its time to live in ms.
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {0, 0}
end
if not holder or ARGV[3] == '1' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1, 0}
end
return {2, redis.call('PTTL', KEYS[1])}
