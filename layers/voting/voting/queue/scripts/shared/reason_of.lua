-- reason_of(letter) returns the reason of a dead letter, as reason_of in voting.queue.dead_letter does. Most letters
-- begin with it and need not be parsed.

local function word(text)
  return #text <= 64 and string.match(text, '^[%w_.:-]+$') or 'unreadable'
end
local function reason_of(letter)
  local plain = string.match(letter, '^{"reason": "([%w_.:-]+)"')
  if plain then return word(plain) end
  local parsed, fields = pcall(cjson.decode, letter)
  return parsed and type(fields) == 'table' and type(fields.reason) == 'string' and word(fields.reason) or 'unreadable'
end
