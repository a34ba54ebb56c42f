-- Read messages in process that come after the claimed ones. Changes nothing.
--
-- KEYS     as in claim.lua
-- ARGV[1]  number of messages to pass over
-- ARGV[2]  most messages
-- ARGV[3]  most bytes
--
-- Returns {'ok', oldest message after those, next, ...}
--
-- Shared: oldest

local behind = redis.call('LLEN', KEYS[2]) - ARGV[1]
return oldest(ARGV[1], math.min(behind, ARGV[2]), tonumber(ARGV[3]))
