-- Drop the letters of one reason, or all, from one page of dead letters, and forget what was dropped to make room.
--
-- KEYS[1]  dead
-- KEYS[2]  dead:account
-- ARGV[1]  place after the newest letter of the page
-- ARGV[2]  most letters
-- ARGV[3]  most bytes
-- ARGV[4]  reason of the letters to drop; empty for all
--
-- Returns {place of the oldest letter of the page, number of letters dropped}
--
-- Shared: reason_of, next_step, remove

redis.call('LTRIM', KEYS[1], 0, -1)  -- changes nothing; lets the script run while the memory is full

local behind = math.min(tonumber(ARGV[1]), redis.call('LLEN', KEYS[1]))
local most, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local first, bytes, step, places = behind, 1, 16, {}
while first > 0 and behind - first < most and bytes < most_bytes do
  local from = math.max(0, first - step)
  local page = redis.call('LRANGE', KEYS[1], from, first - 1)
  for i, letter in ipairs(page) do
    bytes = bytes + #letter
    if ARGV[4] == '' or reason_of(letter) == ARGV[4] then places[#places + 1] = from + i - 1 end
  end
  first = from
  step = next_step(step, behind - first, bytes, most, most_bytes)
end
remove(KEYS[1], places, first, behind)
redis.call('DEL', KEYS[2])
return {first, #places}
