-- behind_ms(votes, processing, progress, handed_back) returns for how many milliseconds messages have waited without a
-- batch being acknowledged; 0 if none waits or another worker drains the list. Its arguments are keys.
--
-- A time in the future means that the clock of Redis was set back. It must not hide a stall, so its distance counts. A
-- worker that is alive soon writes a new time.

local function behind_ms(votes, processing, progress, handed_back)
  if redis.call('EXISTS', handed_back) == 1 or redis.call('EXISTS', votes, processing) == 0 then return 0 end
  local now = redis.call('TIME')
  local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
  return math.abs(now_ms - (tonumber(redis.call('GET', progress) or now_ms) or 0))
end
