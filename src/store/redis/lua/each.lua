-- Ends a script whose keys are independent: runs `step` on each key, with the offset of its `width`
-- arguments, and returns a reply or an error for each.
local done = {}
for i, key in ipairs(KEYS) do
  local good, found = pcall(step, key, width * (i - 1))
  if not good and type(found) ~= 'table' then
    found = {err = 'ERR Error running script: ' .. tostring(found)}
  end
  done[i] = found
end
return done
