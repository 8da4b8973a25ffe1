-- Adds counts of hosts online. KEYS[1]: the hash. ARGV: field and counts of the hour; field and run of the
-- node, and the number of runs that are kept; the oldest hour that is kept, and 1 if older ones are to be
-- deleted.
local function put(field, new, merge)
  redis.call('HSET', KEYS[1], field, merge(redis.call('HGET', KEYS[1], field) or '', new))
end
put(ARGV[1], ARGV[2], function(stored, new)
  local counts, all = {}, {}
  for count in string.gmatch(stored .. ',', '([^,]*),') do
    counts[#counts + 1] = count
  end
  for count in string.gmatch(new .. ',', '([^,]*),') do
    all[#all + 1] = count ~= '' and count or counts[#all + 1] or ''
  end
  return table.concat(all, ',')
end)
put(ARGV[3], ARGV[4], function(stored, new)
  local start, runs = string.match(new, '^(%d+%-)'), {}
  for run in string.gmatch(stored, '[^,]+') do
    if string.sub(run, 1, #start) ~= start then
      runs[#runs + 1] = run
    end
  end
  runs[#runs + 1] = new
  return table.concat(runs, ',', math.max(1, #runs - tonumber(ARGV[5]) + 1))
end)
if ARGV[7] == '1' then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local hour = tonumber(string.match(all[i], ':(%d+)$') or '')
    if hour and hour < tonumber(ARGV[6]) then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
return 1
