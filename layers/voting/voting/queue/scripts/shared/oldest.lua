-- oldest(skipped, most, most_bytes) returns {'ok', oldest message, next, ...}: up to `most` messages in process, after
-- the `skipped` oldest. The first one is returned even if it alone is larger than `most_bytes`.
--
-- The range is read in steps, so that megabytes of hostile messages are not copied before the limit is noticed.
--
-- KEYS     as in claim.lua

local function oldest(skipped, most, most_bytes)
  local bytes, largest, batch = 0, 1, {'ok'}
  while #batch <= most do
    local taken = #batch - 1
    local step = math.max(1, math.min(256, most - taken, math.floor((most_bytes - bytes) / largest)))
    local votes = redis.call('LRANGE', KEYS[2], -skipped - taken - step, -skipped - taken - 1)
    for i = #votes, 1, -1 do
      bytes = bytes + #votes[i]
      if bytes > most_bytes and #batch > 1 then return batch end
      largest = math.max(largest, #votes[i])
      batch[#batch + 1] = votes[i]
    end
  end
  return batch
end
