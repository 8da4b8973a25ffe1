-- Writes the rollout of a task, unless a later keeper has written it. KEYS[1]: the rollout, as JSON
-- with the keeper epoch of its writer. ARGV: the text, the keeper epoch.
-- Returns 1, or 0 if a later keeper has written it. A key that has expired stays away.
local was = redis.call('GET', KEYS[1])
if not was then
  return 1
end
local read, stored = pcall(cjson.decode, was)
if read and type(stored) == 'table' and (tonumber(stored.epoch) or 0) > tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
return 1
