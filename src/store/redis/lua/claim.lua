-- Takes a host for a node, whoever held it. KEYS[1] the host's hash.
-- ARGV: node, id, ip, port, since. Returns the new epoch.
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'id', ARGV[2], 'ip', ARGV[3], 'port', ARGV[4], 'since', ARGV[5])
redis.call('HDEL', KEYS[1], 'reason')
redis.call('PERSIST', KEYS[1])
return epoch
