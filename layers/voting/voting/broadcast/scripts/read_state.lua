-- Read what a broadcast is planned from: one round trip, for every vote that a worker announces.
--
-- KEYS[1]  delivered
-- KEYS[2]  speed
-- KEYS[3]  served
-- ARGV[1]  prefix of the buckets' keys
-- ARGV[2]  number of buckets
--
-- Returns {sizes; delivered; served; {posts_per_s, at} of speed}. The sizes are in the order of the buckets; delivered
-- and served are pairs of bucket and value. These three are strings of numbers with spaces between them: a client
-- parses one long string faster than many numbers.
--
-- The keys of the buckets are not declared: to send them all would take longer than to count their members.

local sizes = {}
for bucket = 0, ARGV[2] - 1 do sizes[bucket + 1] = redis.call('ZCARD', ARGV[1] .. bucket) end
local delivered, served = redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[3])
return {
  table.concat(sizes, ' '), table.concat(delivered, ' '), table.concat(served, ' '),
  redis.call('HMGET', KEYS[2], 'posts_per_s', 'at')
}
