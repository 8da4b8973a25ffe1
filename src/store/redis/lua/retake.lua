-- Takes over a task from a node that is gone, if its claim is unchanged. KEYS[1]: the claim.
-- ARGV: its text, the new text.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
