-- Begin an attempt at some buckets, except those that the same attempt, or a later one, has begun already.
--
-- KEYS[1]  begun
-- ARGV[1]  when the attempt was invoked, in ms since the epoch; 0 only reads: every bucket is free, and none is begun
-- ARGV     from 2 on: the buckets
--
-- Returns, per bucket, 1 if it was free, else 0.

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

local at, free = tonumber(ARGV[1]), {}
for i = 2, #ARGV do
  local is_free = at == 0 or tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') < at
  if is_free and at > 0 then redis.call('HSET', KEYS[1], ARGV[i], ARGV[1]) end
  free[i - 1] = is_free and 1 or 0
end
return free
