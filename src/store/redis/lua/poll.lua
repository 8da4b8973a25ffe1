-- Requests leases of devices and targets. KEYS: the leases.
-- ARGV: our name, lifetime in ms, age of a lease of our name that an earlier process no longer uses, as the
-- time to live that it has left at most, in ms; then for each lease 'renew', 'take' or 'look'.
-- Returns for each 1 if this process holds it now, 0 if not; or an error.
local function request(key, at)
  local way = ARGV[4 + at]
  local holder = redis.call('GET', key)
  local free = not holder
  if holder == ARGV[1] then
    free = way == 'renew' or (way == 'take' and redis.call('PTTL', key) <= tonumber(ARGV[3]))
  end
  if not free or way == 'look' then
    return 0
  end
  redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
  return 1
end
local step, width = request, 1
