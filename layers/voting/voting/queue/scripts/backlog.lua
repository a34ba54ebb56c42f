-- Look at the list and the batch in process at one moment. Changes nothing.
--
-- KEYS     as in claim.lua
--
-- Returns {type of votes, length of votes, length of processing, length of dead, age of claimed, age of handed_back,
--          how long messages have waited without a batch being acknowledged}
--         Times are in seconds, with milliseconds; an age is empty if the key does not exist.
--
-- Shared: behind

local now = redis.call('TIME')
local kind = redis.call('TYPE', KEYS[1]).ok
local function age(key)
  local since = redis.call('GET', key)
  return since and string.format('%.3f', math.max(0, now[1] + now[2] / 1000000 - since / 1000)) or ''
end
return {
  kind, kind == 'list' and redis.call('LLEN', KEYS[1]) or 0, redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[4]),
  age(KEYS[5]), age(KEYS[6]),
  string.format('%.3f', behind_ms(KEYS[1], KEYS[2], KEYS[8], KEYS[6]) / 1000),
}
