-- Register a connection, or renew its registration.
--
-- KEYS[1]  a bucket of subscribers
-- ARGV[1]  when the registration expires, in seconds since the epoch
-- ARGV[2]  connection id
--
-- Returns 1 if the connection is new, else 0.

redis.call('ZREM', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
