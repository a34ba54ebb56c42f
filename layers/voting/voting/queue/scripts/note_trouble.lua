-- Note an error, and since when there has been trouble.
--
-- KEYS[1]  a key of trouble
-- ARGV[1]  the error, in words for an operator
--
-- Returns nothing.

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local since = redis.call('HGET', KEYS[1], 'since') or now_ms
redis.call('HSET', KEYS[1], 'error', ARGV[1], 'since', since, 'at', now_ms)
