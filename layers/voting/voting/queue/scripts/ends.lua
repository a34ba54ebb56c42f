-- Read both ends of the list at one moment. A script, since Redis refuses any transaction while its memory is full.
--
-- KEYS[1]  votes
-- ARGV[1]  most messages of each end
--
-- Returns {messages at the head, messages at the tail}

return {redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1), redis.call('LRANGE', KEYS[1], -ARGV[1], -1)}
