-- Acknowledge the last batch and hand out the next one, in one round trip.
--
-- KEYS[1]  votes
-- KEYS[2]  processing
-- KEYS[3]  fence
-- KEYS[4]  dead
-- KEYS[5]  claimed
-- KEYS[6]  handed_back
-- KEYS[7]  handed_out
-- KEYS[8]  progress
-- KEYS[9]  trouble:counting
-- ARGV[1]  fence token of the run
-- ARGV[2]  number of messages to acknowledge
-- ARGV[3]  most messages to hand out
-- ARGV[4]  most bytes to hand out
-- ARGV[5]  name of this claim
-- ARGV[6]  name of the claim that is acknowledged
-- ARGV[7..]  dead letters
--
-- Returns {status, oldest message, next, ...}; there are messages with 'ok' only:
--         'ok'                acknowledged; the messages are in process now
--         'superseded'        a newer run holds a greater token; nothing was changed
--         'handed out again'  the batch to acknowledge is with a later claim, or lost; nothing was changed
--         'handed back'       acknowledged; another worker drains the list, and the rest is back in `votes`
--         'not a list'        acknowledged; the key `votes` holds something else
--
-- Shared: give_back, oldest
--
-- A claim may arrive late, after its run has given it up and claimed again over another connection. The fence lets it
-- pass, since the run is the newest. Without the names of claims it would trim messages that were handed out in between
-- and are stored nowhere.
--
-- Dead letters are pushed before the trim. RENAME takes a backlog of any length at once, and only when nothing is in
-- process: with one generation at a time the order stays, and after a crash the batch lies where the next run starts.
-- Once the list is handed back, even a superseded run returns what it moved while it waited.

-- Changes nothing, but lets the script run while the memory is full (voting/lua.py): a claim must pass then,
-- or the backlog that fills the memory never moves again.
redis.call('LTRIM', KEYS[2], 0, -1)

local handed_back = redis.call('EXISTS', KEYS[6]) == 1
local seen = tonumber(redis.call('GET', KEYS[3]) or '0')
if handed_back and seen > tonumber(ARGV[1]) then give_back() return {'handed back'} end
if seen > tonumber(ARGV[1]) then return {'superseded'} end
if seen < tonumber(ARGV[1]) then redis.call('SET', KEYS[3], ARGV[1]) end
if tonumber(ARGV[2]) > 0 and redis.call('GET', KEYS[7]) ~= ARGV[6] then return {'handed out again'} end
for i = 7, #ARGV do redis.call('RPUSH', KEYS[4], ARGV[i]) end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if tonumber(ARGV[2]) > 0 then
  redis.call('LTRIM', KEYS[2], 0, -1 - ARGV[2])
  redis.call('DEL', KEYS[5], KEYS[9])
  redis.call('SET', KEYS[8], now_ms)
end
if handed_back then give_back() return {'handed back'} end
local waiting = redis.call('LLEN', KEYS[2])
if waiting == 0 then
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'none' then
    redis.call('SET', KEYS[8], now_ms)
    return {'ok'}
  end
  if kind ~= 'list' then return {'not a list'} end
  redis.call('RENAME', KEYS[1], KEYS[2])
  waiting = redis.call('LLEN', KEYS[2])
end
redis.call('SET', KEYS[5], now_ms, 'NX')
redis.call('SET', KEYS[7], ARGV[5])
return oldest(0, math.min(waiting, ARGV[3]), tonumber(ARGV[4]))
