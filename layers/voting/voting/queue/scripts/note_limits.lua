-- Note the limits that the dead letters exceed.
--
-- KEYS[1]  dead:account
-- ARGV[1]  most letters
-- ARGV[2]  most bytes
--
-- Returns nothing.

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

redis.call('HSET', KEYS[1], 'most', ARGV[1], 'most_bytes', ARGV[2])
