-- Renews claims. KEYS: the hosts' hashes.
-- ARGV for each: node, id, ip, port, since, '1' if it has proved a key, the epoch last returned ('0' for
-- a host without a claim that is adopted), '1' if the host is connected.
-- Returns for each a kind and an epoch, or an error. Kinds: 0 the claim is this node's; 1 it was given
-- up, and is this node's again; 2 no node holds the host; 3 another node holds it.
local function write(key, at, epoch)
  redis.call('HSET', key, 'node', ARGV[at + 1], 'id', ARGV[at + 2], 'ip', ARGV[at + 3], 'port', ARGV[at + 4],
    'since', ARGV[at + 5], 'epoch', string.format('%.0f', epoch))
  if ARGV[at + 6] == '1' then
    redis.call('HSET', key, 'keyed', '1')
  end
  redis.call('HDEL', key, 'reason')
  redis.call('PERSIST', key)
end
local function renew(key, at)
  local node, stored = unpack(redis.call('HMGET', key, 'node', 'epoch'))
  local epoch, is_free = tonumber(ARGV[at + 7]), not node or node == ''
  stored = tonumber(stored)
  if node == ARGV[at + 1] and stored and stored >= epoch then
    return {0, stored}
  end
  if not stored or stored < epoch then
    epoch = math.max(epoch, 1)
    write(key, at, epoch)
    return {0, epoch}
  end
  if is_free and epoch == 0 then
    write(key, at, stored + 1)
    return {0, stored + 1}
  end
  if is_free and epoch == stored and ARGV[at + 8] == '1' then
    write(key, at, stored + 1)
    return {1, stored + 1}
  end
  return {is_free and 2 or 3, stored}
end
local step, width = renew, 8
