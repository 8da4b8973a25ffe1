-- Deletes a key, if it has this type. KEYS[1]: the key. ARGV: the type.
if redis.call('TYPE', KEYS[1]).ok == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
