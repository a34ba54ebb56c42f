"""The Redis list of votes that wait to be counted: pushed, claimed, acknowledged, handed back."""

import time
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import BusyLoadingError, OutOfMemoryError, RedisError, ResponseError

from voting.fence import Superseded
from voting.queue.dead_letter import DeadLetter
from voting.queue.full_memory import TOUCH_LIST
from voting.queue.queue_view import HANDED_BACK, KEYS, PROCESSING, PROGRESS, VOTES, QueueView
from voting.queue.script_connection import Channel
from voting.vote import Vote

PUSH_WITHIN_S = 1.9  # of the 2 s after which a voter is told "not recorded"
ATTEMPTS = 2

# A push that was given up on must not land after a later, accepted one: past its deadline it is refused.
#
# The push comes last: an error after it would be a recorded vote called unrecorded.
#
# KEYS[1] votes   KEYS[2] progress   KEYS[3] handed back
# ARGV[1] the message   ARGV[2] deadline, microseconds of Redis' own clock
# Returns for how many ms nothing has been counted, 0 where that is another worker's task; -1 where it is too late.
PUSH = """
local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[2]) then return -1 end
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local since = tonumber(redis.call('GET', KEYS[2]) or '')
if not since then redis.call('SET', KEYS[2], now_ms) end
local behind = redis.call('EXISTS', KEYS[3]) == 0 and math.abs(now_ms - (since or now_ms)) or 0
redis.call('LPUSH', KEYS[1], ARGV[1])
return behind
"""
PUSH_KEYS = (VOTES, PROGRESS, HANDED_BACK)

# For the two scripts below: the batch in process goes back to the tail of `votes`, in order. The shorter of the lists
# is moved, so that neither a long backlog nor a long batch is walked. Whoever held the batch is fenced off, lest it
# acknowledges what it no longer holds.
GIVE_BACK = """
local function give_back()
  local held = redis.call('LLEN', KEYS[2])
  if held == 0 then return 0 end
  local shorter = redis.call('LLEN', KEYS[1]) < held
  redis.call('INCR', KEYS[3])
  redis.call('DEL', KEYS[5])
  if shorter then
    while redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') do end
    redis.call('RENAME', KEYS[2], KEYS[1])
  else
    while redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT') do end
  end
  return held
end
"""

# For a claim and a look ahead: {1, vote, next, ...}, up to *most* of the oldest in process but *skipped*. The range is
# read in steps, so that hostile megabytes are not all copied before the limit is noticed.
OLDEST = """
local function oldest(skipped, most, most_bytes)
  local bytes, largest, batch = 0, 1, {1}
  while #batch <= most do
    local taken = #batch - 1
    local step = math.max(1, math.min(256, most - taken, math.floor((most_bytes - bytes) / largest)))
    local votes = redis.call('LRANGE', KEYS[2], -skipped - taken - step, -skipped - taken - 1)
    for i = #votes, 1, -1 do
      bytes = bytes + #votes[i]
      if bytes > most_bytes and #batch > 1 then return batch end
      largest = math.max(largest, #votes[i])
      batch[#batch + 1] = votes[i]
    end
  end
  return batch
end
"""

# One round trip between two batches: acknowledge the last one, then hand out the next.
#
# KEYS[1] votes   KEYS[2] processing   KEYS[3] fence   KEYS[4] dead   KEYS[5] claimed   KEYS[6] handed back
# KEYS[7] handed out   KEYS[8] progress   KEYS[9] trouble of counting
# ARGV[1] token   ARGV[2] votes to acknowledge   ARGV[3] most votes   ARGV[4] most bytes   ARGV[5] name of this claim
# ARGV[6] name of the claim that is acknowledged   ARGV[7..] dead letters
# Returns {0} to a superseded run, {2} where `votes` is no list, {3} where it is handed back, {4} where what is to be
# acknowledged has been handed out again, else {1, oldest vote, next, ...}.
#
# It must pass while memory is full, or the backlog that fills it never moves again (voting.full_memory).
#
# A claim may arrive late, after its run has given it up and claimed again over another connection. The fence lets it
# pass, since the run is the newest; without names it would trim what was handed out meanwhile and is stored nowhere.
#
# Dead letters are pushed before the trim. RENAME takes any backlog at once, and only when nothing is in process: one
# generation at a time keeps the order, and a crash leaves the batch where the next run starts. A list that is handed
# back gets back what a run moved while it waited, even a superseded run.
CLAIM = (
    GIVE_BACK
    + OLDEST
    + TOUCH_LIST % 2
    + """
local handed_back = redis.call('EXISTS', KEYS[6]) == 1
local seen = tonumber(redis.call('GET', KEYS[3]) or '0')
if handed_back and seen > tonumber(ARGV[1]) then give_back() return {3} end
if seen > tonumber(ARGV[1]) then return {0} end
if seen < tonumber(ARGV[1]) then redis.call('SET', KEYS[3], ARGV[1]) end
if tonumber(ARGV[2]) > 0 and redis.call('GET', KEYS[7]) ~= ARGV[6] then return {4} end
for i = 7, #ARGV do redis.call('RPUSH', KEYS[4], ARGV[i]) end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if tonumber(ARGV[2]) > 0 then
  redis.call('LTRIM', KEYS[2], 0, -1 - ARGV[2])
  redis.call('DEL', KEYS[5], KEYS[9])
  redis.call('SET', KEYS[8], now_ms)
end
if handed_back then give_back() return {3} end
local waiting = redis.call('LLEN', KEYS[2])
if waiting == 0 then
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'none' then
    redis.call('SET', KEYS[8], now_ms)
    return {1}
  end
  if kind ~= 'list' then return {2} end
  redis.call('RENAME', KEYS[1], KEYS[2])
  waiting = redis.call('LLEN', KEYS[2])
end
redis.call('SET', KEYS[5], now_ms, 'NX')
redis.call('SET', KEYS[7], ARGV[5])
return oldest(0, math.min(waiting, ARGV[3]), tonumber(ARGV[4]))
"""
)

# KEYS as for a claim
# ARGV[1] votes to pass over   ARGV[2] most votes   ARGV[3] most bytes
# Returns {1, oldest vote behind those, next, ...}.
LOOK_AHEAD = (
    OLDEST
    + """
local behind = redis.call('LLEN', KEYS[2]) - ARGV[1]
return oldest(ARGV[1], math.min(behind, ARGV[2]), tonumber(ARGV[3]))
"""
)

# KEYS as for a claim
# ARGV[1] token
# Returns how many votes went back.
HAND_BACK = (
    GIVE_BACK
    + TOUCH_LIST % 2
    + """
if redis.call('EXISTS', KEYS[6]) == 0 then return redis.error_reply('handed_back is not set') end
local seen = tonumber(redis.call('GET', KEYS[3]) or '0')
if seen < tonumber(ARGV[1]) then redis.call('SET', KEYS[3], ARGV[1]) end
return give_back()
"""
)


# KEYS as for a claim
# Returns 1, or 0 where nothing was handed out before.
STOP_CLAIMS = (
    TOUCH_LIST % 2
    + """
local now = redis.call('TIME')
return redis.call('SET', KEYS[6], now[1] * 1000 + math.floor(now[2] / 1000), 'NX') and 1 or 0
"""
)


class HandedOutAnew(Exception):
    """The batch was handed out again since, so it was not acknowledged and nothing changed. Claim it again."""


class HandedBack(Exception):
    """An operator gave the draining to another worker. Nothing is handed out until it is taken over again."""


class QueueUnavailable(Exception):
    """Redis did not take the vote: it is away, loading, read-only or out of memory. Nothing was recorded."""


class PushUnanswered(QueueUnavailable):
    """Redis was sent the vote and did not answer: it may have been recorded, or not. Pushing again does no harm."""


class NotAList(Exception):
    """The key `votes` holds something else; it is left alone until an operator has looked at it."""

    def __init__(self) -> None:
        super().__init__("the key `votes` is not a list; it is left alone until an operator has looked at it")


class VoteQueue(QueueView):
    """Votes waiting to be counted: pushed at the head of one Redis list, claimed from its tail."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self._push = Channel(redis, PUSH)
        self._claim = redis.register_script(CLAIM)
        self._look_ahead = redis.register_script(LOOK_AHEAD)
        self._hand_back = redis.register_script(HAND_BACK)
        self._stop_claims = redis.register_script(STOP_CLAIMS)
        self._answer_within_s: float = redis.get_connection_kwargs()["socket_timeout"]
        self._claims = 0
        self._handed_out = ""  # the claim that was given messages last
        self._ahead_us: int | None = None  # how far Redis' clock is ahead of our monotonic one, at least

    def push(self, vote: Vote) -> float:
        """Queue *vote*; return once Redis has it, with the seconds for which no vote has been counted (0.0: as usual).

        Raises:
            PushUnanswered: within 2 s; the vote may be there by now, and will not appear later on.
            QueueUnavailable: within 2 s; the vote is not there, and will not appear later on.
        """
        give_up = time.monotonic() + PUSH_WITHIN_S
        failure: Exception | None = None
        unanswered = False
        for _ in range(ATTEMPTS):
            if time.monotonic() >= give_up:
                break
            may_land_until: float | None = None  # nothing is sent yet
            try:
                self._push.open()
                ahead_us = self._clock_ahead_us()
                may_land_until = min(give_up, time.monotonic() + self._answer_within_s)
                deadline_us = int(may_land_until * 1_000_000) + ahead_us
                behind_ms: int = self._push.call(PUSH_KEYS, vote.encode(), deadline_us)
                if behind_ms >= 0:
                    return behind_ms / 1000
                self._ahead_us = None  # our clock stood still (a frozen environment) or Redis' was set: compare anew
            except RedisError as error:
                failure = error
                if may_land_until is not None and not isinstance(error, (ResponseError, BusyLoadingError)):
                    unanswered = True
                    # A broken connection tells nothing of what it carried: the network may still deliver it until
                    # then, and that must not be behind the next vote of this voter.
                    time.sleep(max(0.0, may_land_until - time.monotonic()))
                self._ahead_us = None  # a thaw breaks connections, too, and a new primary has a clock of its own
                self._redis.connection_pool.disconnect()  # dead, or a primary that has become a replica
        if unanswered:
            raise PushUnanswered("Redis did not answer") from failure
        raise QueueUnavailable("Redis did not take the vote") from failure

    def claim(
        self, token: int, *, most: int, most_bytes: int, acknowledge: int = 0, dead: Sequence[DeadLetter] = ()
    ) -> list[bytes]:
        """Acknowledge the last batch, its *dead* letters included, and return the oldest messages, oldest first.

        The messages stay in Redis until they are acknowledged. A call without an answer must not be repeated as it
        was: claim again with nothing to acknowledge.

        Raises:
            Superseded: a newer run has claimed; nothing was changed.
            HandedOutAnew: what was to be acknowledged is with a later claim, or Redis has lost its data since; nothing
                was changed. Claim again with nothing to acknowledge.
            HandedBack: what was to be acknowledged is; nothing is in process any more.
            NotAList: what was to be acknowledged is; `votes` is untouched.
            redis.RedisError: Redis did not answer or refused.
        """
        self._claims += 1
        name = f"{token}.{self._claims}"
        letters = (letter.encode() for letter in dead)
        answer: list[Any] = self._claim(
            keys=KEYS, args=[token, acknowledge, most, most_bytes, name, self._handed_out, *letters]
        )
        status = answer.pop(0)
        if status == 0:
            raise Superseded
        if status == 2:
            raise NotAList
        if status == 3:
            raise HandedBack
        if status == 4:
            raise HandedOutAnew
        if answer:
            self._handed_out = name
        return answer

    def look_ahead(self, behind: int, *, most: int, most_bytes: int) -> list[bytes]:
        """The oldest messages in process *behind* that many, which are claimed; oldest first. Changes nothing.

        They may be stored only after a claim that acknowledged those before them: it is refused where another run or a
        hand-back came between, and nobody else takes from the old end.

        Raises:
            redis.RedisError: Redis did not answer or refused.
        """
        answer: list[Any] = self._look_ahead(keys=KEYS, args=[behind, most, most_bytes])
        return answer[1:]

    def wait(self, timeout_s: float) -> bool:
        """Wait for a vote; move it into the batch in process, in order, and return whether there was one.

        While Redis' memory is full, nothing is moved. *timeout_s* must be below the client's socket timeout.

        Raises:
            redis.RedisError: Redis did not answer, or `votes` is no list.
        """
        try:
            return self._redis.blmove(VOTES, PROCESSING, timeout_s, "RIGHT", "LEFT") is not None  # type: ignore[arg-type] # Redis takes fractions
        except OutOfMemoryError:  # moving may take memory, says Redis; a claim passes and takes what comes
            time.sleep(timeout_s)
            return False

    def stop_claims(self) -> bool:
        """Hand nothing out from now on; return whether anything was until now."""
        return bool(self._stop_claims(keys=KEYS))

    def allow_claims(self) -> bool:
        """Hand out votes again; return whether that was stopped."""
        was_stopped = bool(self._redis.delete(HANDED_BACK))
        if was_stopped:
            self._redis.delete(PROGRESS)  # what another worker did not count is no delay of ours
        return was_stopped

    def give_back(self, token: int) -> int:
        """Return the batch in process to the tail of `votes`, in order, and fence off every run up to *token*.

        Returns how many votes went back. Claims must have been stopped.
        """
        return int(self._hand_back(keys=KEYS, args=[token]))

    def _clock_ahead_us(self) -> int:
        """How far Redis' clock is ahead of ours, compared anew where that is not known."""
        if self._ahead_us is None:
            seconds, microseconds = self._redis.time()
            # The answer is at least as old as now: the deadline errs to the early side only.
            self._ahead_us = seconds * 1_000_000 + microseconds - int(time.monotonic() * 1_000_000)
        return self._ahead_us
