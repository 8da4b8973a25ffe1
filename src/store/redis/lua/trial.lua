-- Tries commands on a key without other use. Returns the commands that failed, with the server's errors.
-- KEYS[1]: the key. ARGV: a call each, its words between blanks, `$` for the key.
local failed = {}
for i = 1, #ARGV do
  redis.pcall('DEL', KEYS[1])
  local words = {}
  for word in string.gmatch(ARGV[i], '%S+') do
    words[#words + 1] = word == '$' and KEYS[1] or word
  end
  local reply = redis.pcall(unpack(words))
  if type(reply) == 'table' and reply.err then
    failed[#failed + 1] = words[1]
    failed[#failed + 1] = reply.err
  end
end
redis.pcall('DEL', KEYS[1])
return failed
