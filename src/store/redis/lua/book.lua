-- Sets a task book, all at once, where there is nothing. KEYS[1] the book. ARGV: priority and command, by turns.
-- Returns whether it is this book that is there now, whatever was added to it since.
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
