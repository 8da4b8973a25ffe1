-- Writes a task book at once, if the key does not exist. KEYS[1]: the book. ARGV: priority and command,
-- alternating.
-- Returns whether the key holds this book now. Other commands may have been added.
if redis.call('EXISTS', KEYS[1]) == 0 then
  for first = 1, #ARGV, 1000 do
    redis.call('ZADD', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
  end
  return 1
end
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then
  return 0
end
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i + 1])
  if not score or tonumber(score) ~= tonumber(ARGV[i]) then
    return 0
  end
end
return 1
