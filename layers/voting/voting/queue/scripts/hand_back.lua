-- Return the batch in process to `votes`, and fence off every run up to the token. Claims must have been stopped.
--
-- KEYS     as in claim.lua
-- ARGV[1]  fence token
--
-- Returns the number of messages that were returned.
--
-- Shared: give_back

redis.call('LTRIM', KEYS[2], 0, -1)  -- changes nothing; lets the script run while the memory is full

if redis.call('EXISTS', KEYS[6]) == 0 then return redis.error_reply('handed_back is not set') end
local seen = tonumber(redis.call('GET', KEYS[3]) or '0')
if seen < tonumber(ARGV[1]) then redis.call('SET', KEYS[3], ARGV[1]) end
return give_back()
