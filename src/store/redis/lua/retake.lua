-- Takes a task over from a node that is gone, if its claim is still the one meant. KEYS[1] the claim. ARGV: its text, the new one.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
