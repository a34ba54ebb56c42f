-- Try what a push needs of Redis: memory, the right to write, a primary, and its replicas if it must have some.
--
-- KEYS[1]  votes
-- KEYS[2]  trial
--
-- Returns 1; 0 if the key `votes` holds something that takes no push.

redis.call('LPUSH', KEYS[2], '')
redis.call('DEL', KEYS[2])
local kind = redis.call('TYPE', KEYS[1]).ok
return (kind == 'list' or kind == 'none') and 1 or 0
