-- Claims hosts for a node, also from other nodes. KEYS: the hosts' hashes.
-- ARGV for each: node, id, ip, port, since, '1' if it has proved a key. Returns for each the new epoch,
-- or an error.
local function claim(key, at)
  local epoch = redis.call('HINCRBY', key, 'epoch', 1)
  redis.call('HSET', key, 'node', ARGV[at + 1], 'id', ARGV[at + 2], 'ip', ARGV[at + 3], 'port', ARGV[at + 4],
    'since', ARGV[at + 5])
  if ARGV[at + 6] == '1' then
    redis.call('HSET', key, 'keyed', '1')
  end
  redis.call('HDEL', key, 'reason')
  redis.call('PERSIST', key)
  return epoch
end
local done = {}
for i, key in ipairs(KEYS) do
  local good, found = pcall(claim, key, 6 * (i - 1))
  if not good and type(found) ~= 'table' then
    found = {err = 'ERR Error running script: ' .. tostring(found)}
  end
  done[i] = found
end
return done
