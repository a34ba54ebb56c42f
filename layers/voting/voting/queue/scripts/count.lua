-- Count one page of dead letters by their reasons. Changes nothing.
--
-- KEYS[1]  dead
-- ARGV[1]  place of the first letter
-- ARGV[2]  most letters
-- ARGV[3]  most bytes
-- ARGV[4]  a reason
-- ARGV[5]  stop after so many letters of that reason
--
-- Returns {place after the last letter of the page, bytes of the page, reason, count, reason, count, ...}
--
-- Shared: reason_of, next_step

local first, most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local looked, bytes, step, counts, enough = 0, 1, 16, {}, false
while not enough and looked < most and bytes < most_bytes do
  local page = redis.call('LRANGE', KEYS[1], first + looked, first + looked + step - 1)
  if #page == 0 then break end
  for _, letter in ipairs(page) do
    local reason = reason_of(letter)
    looked, bytes, counts[reason] = looked + 1, bytes + #letter, (counts[reason] or 0) + 1
    enough = reason == ARGV[4] and counts[reason] >= tonumber(ARGV[5])
    if enough then break end
  end
  step = next_step(step, looked, bytes, most, most_bytes)
end
local answer = {first + looked, bytes - 1}
for reason, count in pairs(counts) do
  answer[#answer + 1] = reason
  answer[#answer + 1] = count
end
return answer
