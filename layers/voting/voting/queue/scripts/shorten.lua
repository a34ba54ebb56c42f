-- Replace dead letters by shorter ones. A letter that was moved or removed since it was read is left alone: the digest
-- of what is at its place differs.
--
-- KEYS[1]  dead
-- KEYS[2]  dead:account
-- ARGV[1]  place of the first letter of the page
-- ARGV[2]  place of its last letter
-- ARGV[3..]  three for each letter: its distance from the first, its SHA-1, the letter that replaces it
--
-- Returns the number of bytes saved.
--
-- Shared: note

redis.call('LTRIM', KEYS[1], 0, -1)  -- changes nothing; lets the script run while the memory is full

local page, freed, count = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2]), 0, 0
for i = 3, #ARGV, 3 do
  local old = page[ARGV[i] + 1]
  if old and redis.sha1hex(old) == ARGV[i + 1] then
    redis.call('LSET', KEYS[1], ARGV[1] + ARGV[i], ARGV[i + 2])
    freed, count = freed + #old - #ARGV[i + 2], count + 1
  end
end
note(KEYS[2], 'shortened', count)
return freed
