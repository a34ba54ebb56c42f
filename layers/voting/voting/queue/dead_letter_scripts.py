"""What Redis does with dead letters in one call: a page of them, at known places (voting.dead_letters)."""

from voting.queue.full_memory import TOUCH_HASH, TOUCH_LIST

# The reason of a letter, as reason_of in dead_letter; most of them begin with it, and need not be parsed.
REASON_OF = """
local function word(text)
  return #text <= 64 and string.match(text, '^[%w_.:-]+$') or 'unreadable'
end
local function reason_of(letter)
  local plain = string.match(letter, '^{"reason": "([%w_.:-]+)"')
  if plain then return word(plain) end
  local parsed, fields = pcall(cjson.decode, letter)
  return parsed and type(fields) == 'table' and type(fields.reason) == 'string' and word(fields.reason) or 'unreadable'
end
local function next_step(step, looked, bytes, most, most_bytes)
  return math.max(1, math.min(2 * step, most - looked, math.floor((most_bytes - bytes) * looked / bytes)))
end
"""

# KEYS[1] dead
# ARGV[1] place of the first letter   ARGV[2] most letters   ARGV[3] most bytes
# ARGV[4] reason, ARGV[5] of which so many are enough
# Returns the place behind the last letter that was looked at, and the bytes of all; then reason, count, ...
COUNT = (
    REASON_OF
    + """
local first, most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local looked, bytes, step, counts, enough = 0, 1, 16, {}, false
while not enough and looked < most and bytes < most_bytes do
  local page = redis.call('LRANGE', KEYS[1], first + looked, first + looked + step - 1)
  if #page == 0 then break end
  for _, letter in ipairs(page) do
    local reason = reason_of(letter)
    looked, bytes, counts[reason] = looked + 1, bytes + #letter, (counts[reason] or 0) + 1
    enough = reason == ARGV[4] and counts[reason] >= tonumber(ARGV[5])
    if enough then break end
  end
  step = next_step(step, looked, bytes, most, most_bytes)
end
local answer = {first + looked, bytes - 1}
for reason, count in pairs(counts) do
  answer[#answer + 1] = reason
  answer[#answer + 1] = count
end
return answer
"""
)

# For three scripts below: letters are marked at their places, and one search from the nearer end removes the marks.
# Others never see a mark, and it is no letter.
REMOVE = """
local function remove(key, places, first, behind)
  for _, place in ipairs(places) do redis.call('LSET', key, place, '') end
  if #places == 0 then return end
  local nearer_head = behind < redis.call('LLEN', key) - first
  redis.call('LREM', key, nearer_head and #places or -#places, '')
end
"""

# KEYS[1] dead   KEYS[2] account
# ARGV[1] place behind the newest letter to look at   ARGV[2] most letters   ARGV[3] most bytes
# ARGV[4] the reason of those that are dropped; empty for all
# Returns the place of the oldest letter that was looked at, and how many were dropped.
DROP = (
    REASON_OF
    + REMOVE
    + TOUCH_LIST % 1
    + """
local behind = math.min(tonumber(ARGV[1]), redis.call('LLEN', KEYS[1]))
local most, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local first, bytes, step, places = behind, 1, 16, {}
while first > 0 and behind - first < most and bytes < most_bytes do
  local from = math.max(0, first - step)
  local page = redis.call('LRANGE', KEYS[1], from, first - 1)
  for i, letter in ipairs(page) do
    bytes = bytes + #letter
    if ARGV[4] == '' or reason_of(letter) == ARGV[4] then places[#places + 1] = from + i - 1 end
  end
  first = from
  step = next_step(step, behind - first, bytes, most, most_bytes)
end
remove(KEYS[1], places, first, behind)
redis.call('DEL', KEYS[2])
return {first, #places}
"""
)

# For the two scripts below: what the account says of letters that were dropped or shortened to make room.
ACCOUNT = """
local function note(key, what, count)
  if count == 0 then return end
  local now = redis.call('TIME')
  local since = redis.call('HGET', key, 'since') or now[1] * 1000 + math.floor(now[2] / 1000)
  redis.call('HSET', key, 'since', since, what, (redis.call('HGET', key, what) or 0) + count)
end
"""

# KEYS[1] dead   KEYS[2] account
# ARGV[1] place of the first letter   ARGV[2] most letters   ARGV[3] most bytes   ARGV[4] the reason that stays
# ARGV[5] letters that are to go, at least   ARGV[6] bytes that are to go, at least
# Returns the place behind the last letter that was looked at and stays, how many were dropped, and their bytes.
EVICT = (
    REASON_OF
    + REMOVE
    + ACCOUNT
    + TOUCH_LIST % 1
    + """
local first, most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local letters, size = tonumber(ARGV[5]), tonumber(ARGV[6])
local looked, bytes, step, places, freed = 0, 1, 16, {}, 0
while looked < most and bytes < most_bytes and (#places < letters or freed < size) do
  local page = redis.call('LRANGE', KEYS[1], first + looked, first + looked + step - 1)
  if #page == 0 then break end
  for i, letter in ipairs(page) do
    bytes = bytes + #letter
    if (#places < letters or freed < size) and reason_of(letter) ~= ARGV[4] then
      places[#places + 1] = first + looked + i - 1
      freed = freed + #letter
    end
  end
  looked = looked + #page
  step = next_step(step, looked, bytes, most, most_bytes)
end
remove(KEYS[1], places, first, first + looked)
note(KEYS[2], 'dropped', #places)
return {first + looked - #places, #places, freed}
"""
)

# Letters that others have moved or removed since they were read are left: the digest tells.
#
# KEYS[1] dead   KEYS[2] account
# ARGV[1] place of the first letter of the page   ARGV[2] place of its last
# ARGV[3..] by threes: how far behind the first, SHA-1 of the letter, the letter that replaces it
# Returns how many bytes went.
SHORTEN = (
    ACCOUNT
    + TOUCH_LIST % 1
    + """
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
"""
)

# KEYS[1] account
# ARGV[1] most letters   ARGV[2] most bytes
NOTE_LIMITS = (
    TOUCH_HASH
    + """
redis.call('HSET', KEYS[1], 'most', ARGV[1], 'most_bytes', ARGV[2])
"""
)

# At the tail they are older than whatever waits, and only what is still parked moves: whatever dies, every letter is in
# one of the lists, and in one only.
#
# KEYS[1] votes   KEYS[2] processing   KEYS[3] dead
# ARGV[1] most messages to look through for other votes of the same voters; 0 to look at none
# ARGV[2] place of the first letter of the page   ARGV[3] place of its last
# ARGV[4..] by threes, the newest first: letter, its message, its voter
# Returns how many moved, and how many are no longer in the page; -1 where more messages are queued than may be looked
# through; -2 where `votes` is no list.
REQUEUE = (
    REMOVE
    + TOUCH_LIST % 3
    + """
local function voter_of(message)
  local plain = string.match(message, '^{"vote": ?"[^"\\]*", ?"voter_id": ?"([^"\\]*)"}$')
  if plain then return plain end  -- the parser would make the whole take half as long again
  local parsed, fields = pcall(cjson.decode, message)
  local voter_id = parsed and type(fields) == 'table' and fields.voter_id
  return type(voter_id) == 'string' and voter_id or nil
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'list' and kind ~= 'none' then return {-2, 0} end
local queued, most = {}, tonumber(ARGV[1])
if most > 0 then
  if redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) > most then return {-1, 0} end
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
return {#moved, gone}
"""
)
