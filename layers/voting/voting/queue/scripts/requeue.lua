-- Move dead letters of one page to the tail of `votes`, where they are older than every message that waits. Only
-- letters that are still parked move: if a process dies, every letter is in one of the lists, and in one only.
--
-- KEYS[1]  votes
-- KEYS[2]  processing
-- KEYS[3]  dead
-- ARGV[1]  most queued messages to search for other votes of the same voters; 0 to search none
-- ARGV[2]  place of the first letter of the page
-- ARGV[3]  place of its last letter
-- ARGV[4..]  three for each letter, the newest first: the letter, its message, its voter
--
-- Returns {status, letters moved, letters that are no longer in the page}:
--         'ok'               moved
--         'too many queued'  more messages are queued than ARGV[1]; nothing was moved
--         'not a list'       the key `votes` holds something else; nothing was moved
--
-- Shared: remove

redis.call('LTRIM', KEYS[3], 0, -1)  -- changes nothing; lets the script run while the memory is full

local function voter_of(message)
  local plain = string.match(message, '^{"vote": ?"[^"\\]*", ?"voter_id": ?"([^"\\]*)"}$')
  if plain then return plain end  -- parsing all messages takes half as long again
  local parsed, fields = pcall(cjson.decode, message)
  local voter_id = parsed and type(fields) == 'table' and fields.voter_id
  return type(voter_id) == 'string' and voter_id or nil
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'list' and kind ~= 'none' then return {'not a list', 0, 0} end
local queued, most = {}, tonumber(ARGV[1])
if most > 0 then
  if redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) > most then return {'too many queued', 0, 0} end
  for key = 1, 2 do
    for _, message in ipairs(redis.call('LRANGE', KEYS[key], 0, -1)) do
      local voter_id = voter_of(message)
      if voter_id then queued[voter_id] = true end
    end
  end
end
local first, last, there = tonumber(ARGV[2]), tonumber(ARGV[3]), {}
for i, letter in ipairs(redis.call('LRANGE', KEYS[3], first, last)) do
  there[letter] = there[letter] or {}
  table.insert(there[letter], first + i - 1)
end
local moved, gone = {}, 0
for i = 4, #ARGV, 3 do
  if not queued[ARGV[i + 2]] then
    local place = there[ARGV[i]] and table.remove(there[ARGV[i]])
    if place then
      redis.call('RPUSH', KEYS[1], ARGV[i + 1])
      moved[#moved + 1] = place
    else
      gone = gone + 1
    end
  end
end
remove(KEYS[3], moved, first, last + 1)
return {'ok', #moved, gone}
