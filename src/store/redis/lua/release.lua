-- Gives up a claim, if it is still this one. KEYS: the hosts' hashes.
-- ARGV for each: node, epoch ('0' for any), reason, since, lifetime in ms, '1' to include a host without a
-- claim. Returns for each whether the claim was given up, and the node of the claim ('-' and a name, or ''
-- without a claim); or an error.
local function release(key, at)
  local node, epoch = unpack(redis.call('HMGET', key, 'node', 'epoch'))
  local ours = node == ARGV[at + 1] and (ARGV[at + 2] == '0' or ARGV[at + 2] == epoch)
  local nobodys = ARGV[at + 6] == '1' and (not node or node == '')
  if ours or nobodys then
    redis.call('HSET', key, 'node', '', 'reason', ARGV[at + 3], 'since', ARGV[at + 4])
    redis.call('PEXPIRE', key, ARGV[at + 5])
    return {1, '-'}
  end
  if node then
    return {0, '-' .. node}
  end
  return {0, ''}
end
local step, width = release, 6
