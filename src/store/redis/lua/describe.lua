-- Writes host name and MAC address, if the node holds the host. KEYS[1]: the host's hash.
-- ARGV: node, host name, MAC address. An empty value deletes the field.
if redis.call('HGET', KEYS[1], 'node') ~= ARGV[1] then
  return 0
end
for i, field in ipairs({'hostname', 'mac'}) do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], field)
  else
    redis.call('HSET', KEYS[1], field, ARGV[i + 1])
  end
end
return 1
