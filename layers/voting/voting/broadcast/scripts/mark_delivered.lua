-- Record the version that everyone in a bucket has been sent, and that the bucket was served now.
--
-- KEYS[1]  delivered
-- KEYS[2]  halfway
-- KEYS[3]  served
-- ARGV     per bucket: its number, the version, the content of delivered when the delivery began
--
-- Returns nothing.
--
-- A version never decreases. A debt (a number below zero) that was recorded during the delivery stays, so the bucket is
-- sent the results again. It counts as served even so, and buckets that have waited longer come before it.

redis.call('HDEL', KEYS[1], '')  -- changes nothing; lets the script run while the memory is full

local now = redis.call('TIME')
local at = now[1] .. string.format('%06d', now[2])
local served = {}
for i = 1, #ARGV, 3 do
  local bucket, version, before = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  served[#served + 1], served[#served + 2] = bucket, at
  local current = redis.call('HGET', KEYS[1], bucket)
  local is_owed = current and tonumber(current) < 0 and current ~= before
  if not is_owed and (not current or tonumber(current) < tonumber(version)) then
    redis.call('HSET', KEYS[1], bucket, version)
  end
  redis.call('HDEL', KEYS[2], bucket)
end
redis.call('HSET', KEYS[3], unpack(served))
