-- give_back() returns the batch in process to the tail of `votes`, in order, and the number of its messages.
--
-- The shorter of the two lists is moved, so that neither a long backlog nor a long batch is walked. The fence token
-- rises, so that the run that held the batch cannot acknowledge it any more.
--
-- KEYS     as in claim.lua

local function give_back()
  local held = redis.call('LLEN', KEYS[2])
  if held == 0 then return 0 end
  local shorter = redis.call('LLEN', KEYS[1]) < held
  redis.call('INCR', KEYS[3])
  redis.call('DEL', KEYS[5])
  if shorter then
    while redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') do end
    redis.call('RENAME', KEYS[2], KEYS[1])
  else
    while redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT') do end
  end
  return held
end
