-- Returns whether a command of a host has failed. KEYS[1]: the hash of its results.
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  local exit = string.match(text, '"exit":%s*(-?%d+)')
  if exit and tonumber(exit) ~= 0 then
    return 1
  end
end
return 0
