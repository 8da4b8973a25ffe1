-- Gives up the claim of a task, if it is unchanged. KEYS[1]: the claim. ARGV: its text.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
