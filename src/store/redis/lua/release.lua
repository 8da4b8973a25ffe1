-- Gives up a claim, if it is still the one meant. KEYS[1] the host's hash.
-- ARGV: node, epoch ('0' for whichever), reason, since, lifetime in ms, '1' if a host that nobody
-- holds is meant as well.
-- Returns whether it was given up, and the node found there ('-' and a name, or '' where there is no field).
local node, epoch = unpack(redis.call('HMGET', KEYS[1], 'node', 'epoch'))
local ours = node == ARGV[1] and (ARGV[2] == '0' or ARGV[2] == epoch)
local nobodys = ARGV[6] == '1' and (not node or node == '')
if ours or nobodys then
  redis.call('HSET', KEYS[1], 'node', '', 'reason', ARGV[3], 'since', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  return {1, '-'}
end
if node then
  return {0, '-' .. node}
end
return {0, ''}
