-- remove(key, places, first, behind) removes the letters at `places`, which all lie from `first` up to before `behind`.
--
-- They are replaced by a mark, which is no letter, and one search from the nearer end removes the marks. No other
-- client ever sees a mark. Returns nothing.

local function remove(key, places, first, behind)
  for _, place in ipairs(places) do redis.call('LSET', key, place, '') end
  if #places == 0 then return end
  local nearer_head = behind < redis.call('LLEN', key) - first
  redis.call('LREM', key, nearer_head and #places or -#places, '')
end
