-- Push one message, unless its deadline has passed: a push that the caller has given up on must not land after a later
-- one that was accepted.
--
-- KEYS[1]  votes
-- KEYS[2]  progress
-- KEYS[3]  handed_back
-- ARGV[1]  the message
-- ARGV[2]  the deadline, microseconds by the clock of Redis
--
-- Returns the milliseconds since a batch was last acknowledged; 0 if another worker drains the list.
--         'too late'  the deadline has passed; nothing was pushed

local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[2]) then return 'too late' end
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local since = tonumber(redis.call('GET', KEYS[2]) or '')
if not since then redis.call('SET', KEYS[2], now_ms) end
local behind = redis.call('EXISTS', KEYS[3]) == 0 and math.abs(now_ms - (since or now_ms)) or 0
-- Last, since an error after it would report a recorded vote as not recorded.
redis.call('LPUSH', KEYS[1], ARGV[1])
return behind
