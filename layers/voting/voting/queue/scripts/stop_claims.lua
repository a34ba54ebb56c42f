-- Hand out nothing from now on.
--
-- KEYS     as in claim.lua
--
-- Returns 1; 0 if claims were stopped before.

redis.call('LTRIM', KEYS[2], 0, -1)  -- changes nothing; lets the script run while the memory is full

local now = redis.call('TIME')
return redis.call('SET', KEYS[6], now[1] * 1000 + math.floor(now[2] / 1000), 'NX') and 1 or 0
