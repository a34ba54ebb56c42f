-- Keep what subscribers were told last.
--
-- KEYS[1]  snapshot
-- ARGV[1]  the state that was broadcast: stale or fresh
--
-- Returns nothing.

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

redis.call('HSET', KEYS[1], 'told', ARGV[1])
