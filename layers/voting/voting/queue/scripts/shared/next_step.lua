-- next_step(step, looked, bytes, most, most_bytes) returns how many letters to read next: at most twice the last step,
-- and no more than the limits leave, if the next letters are as large as the `looked` ones were on average.

local function next_step(step, looked, bytes, most, most_bytes)
  return math.max(1, math.min(2 * step, most - looked, math.floor((most_bytes - bytes) * looked / bytes)))
end
