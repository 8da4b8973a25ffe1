-- Reads the results of a host, with the beginning of each output, which is last in its text. KEYS[1]: the
-- hash. ARGV: greatest length of an output, and of all of them, in characters. Returns command and text,
-- alternating.
local all = redis.call('HGETALL', KEYS[1])
local mark = '"output":"'
local each, left = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 2, #all, 2 do
  local _, last = string.find(all[i], mark, 1, true)
  if last then
    local room = math.min(each, left - left % 4)
    if #all[i] - last - 2 > room then
      all[i] = string.sub(all[i], 1, last + room) .. '"}'
    end
    left = left - (#all[i] - last - 2)
  end
end
return all
