-- Drop dead letters from one page to make room, the oldest first, but those of one reason.
--
-- KEYS[1]  dead
-- KEYS[2]  dead:account
-- ARGV[1]  place of the first letter
-- ARGV[2]  most letters
-- ARGV[3]  most bytes
-- ARGV[4]  reason of the letters that stay
-- ARGV[5]  stop after so many letters dropped, if the bytes are reached too
-- ARGV[6]  stop after so many bytes dropped, if the letters are reached too
--
-- Returns {place after the page, without the letters dropped; number of letters dropped; their bytes}
--
-- Shared: reason_of, next_step, remove, note

redis.call('LTRIM', KEYS[1], 0, -1)  -- changes nothing; lets the script run while the memory is full

local first, most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local letters, size = tonumber(ARGV[5]), tonumber(ARGV[6])
local looked, bytes, step, places, freed = 0, 1, 16, {}, 0
while looked < most and bytes < most_bytes and (#places < letters or freed < size) do
  local page = redis.call('LRANGE', KEYS[1], first + looked, first + looked + step - 1)
  if #page == 0 then break end
  for i, letter in ipairs(page) do
    bytes = bytes + #letter
    if (#places < letters or freed < size) and reason_of(letter) ~= ARGV[4] then
      places[#places + 1] = first + looked + i - 1
      freed = freed + #letter
    end
  end
  looked = looked + #page
  step = next_step(step, looked, bytes, most, most_bytes)
end
remove(KEYS[1], places, first, first + looked)
note(KEYS[2], 'dropped', #places)
return {first + looked - #places, #places, freed}
