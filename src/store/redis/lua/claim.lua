-- Claims hosts that have connected, also from other nodes. KEYS: the hosts' hashes.
-- ARGV for each: node, id, ip, port, since, '1' if it has proved a key, boot ('' if it gave none),
-- milliseconds since the host's last message.
-- Returns for each a list: the new epoch, the node that held it ('' if none), '1' if its boot is
-- another one, '1' if it has ever proved a key. Or a list of one number: -1 if the claim is refused,
-- since nodes took the host from each other too often, -2 for the first of such refusals, and -3 if the
-- claim is late and the host has connected to another node since its last message. Or an error.
local claims_max, window_ms, late_ms = 15, 60000, 1000
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
-- The refusal of a claim that takes the host from another node, if there were too many.
local function contest(key)
  local now = now_ms()
  local count, began, barred = unpack(redis.call('HMGET', key, 'claims', 'claims_since', 'barred_until'))
  if barred and now < tonumber(barred) then
    return -1
  end
  count, began = tonumber(count) or 0, tonumber(began) or 0
  if barred or now - began >= window_ms then
    count, began = 0, now
    redis.call('HDEL', key, 'barred_until')
  end
  count = count + 1
  redis.call('HSET', key, 'claims', count, 'claims_since', string.format('%.0f', began))
  if count > claims_max then
    redis.call('HSET', key, 'barred_until', string.format('%.0f', now + window_ms))
    return -2
  end
end
local function claim(key, at)
  local before, boot, keyed = unpack(redis.call('HMGET', key, 'node', 'boot', 'keyed'))
  if before and before ~= '' and before ~= ARGV[at + 1] then
    local silent = tonumber(ARGV[at + 8])
    local claimed = silent >= late_ms and tonumber(redis.call('HGET', key, 'claimed'))
    if claimed and claimed > now_ms() - silent then
      return {-3}
    end
    local refused = contest(key)
    if refused then
      return {refused}
    end
  end
  local epoch = redis.call('HINCRBY', key, 'epoch', 1)
  redis.call('HSET', key, 'node', ARGV[at + 1], 'id', ARGV[at + 2], 'ip', ARGV[at + 3], 'port', ARGV[at + 4],
    'since', ARGV[at + 5], 'claimed', string.format('%.0f', now_ms()))
  if ARGV[at + 6] == '1' then
    redis.call('HSET', key, 'keyed', '1')
  end
  local restarted = '0'
  if ARGV[at + 7] ~= '' then
    if boot and boot ~= ARGV[at + 7] then
      restarted = '1'
    end
    redis.call('HSET', key, 'boot', ARGV[at + 7])
  end
  redis.call('HDEL', key, 'reason')
  redis.call('PERSIST', key)
  return {epoch, before or '', restarted, keyed or '0'}
end
local step, width = claim, 8
