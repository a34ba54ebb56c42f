-- Keep a tally as the snapshot, unless a newer one is there.
--
-- KEYS[1]  snapshot
-- KEYS[2]  votes
-- KEYS[3]  processing
-- KEYS[4]  progress
-- KEYS[5]  handed_back
-- ARGV[1]  version
-- ARGV[2]  counts, as JSON
-- ARGV[3]  seconds between two pings of a subscriber
--
-- Returns the version in the snapshot now (a greater version stays), and for how many ms nothing has been counted.
--
-- Shared: behind

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

local now = redis.call('TIME')
local behind = behind_ms(KEYS[2], KEYS[3], KEYS[4], KEYS[5])
local there = redis.call('HGET', KEYS[1], 'version')
local newest = tonumber(there or '') or 0
if newest > tonumber(ARGV[1]) then return {newest, behind} end
redis.call(
  'HSET', KEYS[1], 'version', ARGV[1], 'counts', ARGV[2], 'at', now[1] * 1000 + math.floor(now[2] / 1000),
  'behind', behind, 'ping_s', ARGV[3]
)
return {tonumber(ARGV[1]), behind}
