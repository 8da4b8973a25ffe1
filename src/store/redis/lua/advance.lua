-- Writes a report whose lists are known. KEYS: finished commands, remaining commands, running
-- commands, stream of events. ARGV: host; 'set', 'end' or 'keep' for the running command; that
-- command; number of finished commands to add, length of their list then; number of remaining commands to remove from the end;
-- the finished ones; the removed ones, last first; the arguments of XADD.
-- Returns 1, or 0 if a list is not as known: nothing has changed then.
local added, length, removed = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local from = 7 + added
if added > 0 and redis.call('RPUSH', KEYS[1], unpack(ARGV, 7, from - 1)) ~= length then
  redis.call('RPOP', KEYS[1], added)
  return 0
end
if removed > 0 then
  local last = redis.call('RPOP', KEYS[2], removed) or {}
  local same = #last == removed
  for i = 1, removed do
    same = same and last[i] == ARGV[from + i - 1]
  end
  if not same then
    for i = #last, 1, -1 do
      redis.call('RPUSH', KEYS[2], last[i])
    end
    if added > 0 then
      redis.call('RPOP', KEYS[1], added)
    end
    return 0
  end
end
if ARGV[2] == 'set' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
elseif ARGV[2] == 'end' then
  redis.call('HDEL', KEYS[3], ARGV[1])
end
redis.call('XADD', KEYS[4], unpack(ARGV, from + removed))
return 1
