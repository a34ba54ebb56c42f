-- note(account, what, count) adds `count` letters to those that were dropped or shortened to make room.
-- Returns nothing.

local function note(account, what, count)
  if count == 0 then return end
  local now = redis.call('TIME')
  local since = redis.call('HGET', account, 'since') or now[1] * 1000 + math.floor(now[2] / 1000)
  redis.call('HSET', account, 'since', since, what, (redis.call('HGET', account, what) or 0) + count)
end
