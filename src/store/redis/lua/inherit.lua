-- Takes over a host from a node that is gone, if that still holds it. KEYS[1]: the host's hash.
-- ARGV: that node, this node. Returns whether it did.
if redis.call('HGET', KEYS[1], 'node') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'node', ARGV[2])
return 1
