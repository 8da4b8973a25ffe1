-- Deletes the hash of a host, unless a node has claimed it. KEYS[1]: the hash. Returns whether it is
-- gone.
local node = redis.call('HGET', KEYS[1], 'node')
if node and node ~= '' then
  return 0
end
redis.call('DEL', KEYS[1])
return 1
