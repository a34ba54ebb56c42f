-- Count the frames of one connection within the current window.
--
-- KEYS[1]  frames
-- ARGV[1]  connection id
-- ARGV[2]  number of frames to add
-- ARGV[3]  now, in ms since the epoch
-- ARGV[4]  length of a window, in ms
--
-- Returns the number of frames that the connection has sent within this window.
--
-- The first call of a new window deletes the old one, so the hash stays small. The age is taken without its sign:
-- clocks of two environments that differ a little do not begin a window twice.

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

local age = tonumber(ARGV[3]) - tonumber(redis.call('HGET', KEYS[1], 'since') or '0')
if math.abs(age) >= tonumber(ARGV[4]) then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'since', ARGV[3])
end
local count = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], count)
return count
