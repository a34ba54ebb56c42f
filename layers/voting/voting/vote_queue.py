"""The Redis list of votes that wait to be counted, the batch in process, and the dead letters.

Everything here that touches the list carries the hash tag `{votes}`, so that a cluster keeps it in one slot.
"""

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from voting.fence import Superseded
from voting.vote import Vote

VOTES = "votes"
PROCESSING = "{votes}:processing"
FENCE = "{votes}:fence"
DEAD = "{votes}:dead"

PUSH_WITHIN_S = 1.9  # of the 2 s after which a voter is told "not recorded"
ATTEMPTS = 2
LONGEST_DEAD_PAYLOAD = 64 * 1024

# A push that was given up on must not land after a later, accepted one: past its deadline it is refused.
#
# KEYS[1] votes
# ARGV[1] the message   ARGV[2] deadline, microseconds of Redis' own clock
# Returns the length of the list; 0 where it is too late.
PUSH = """
local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[2]) then return 0 end
return redis.call('LPUSH', KEYS[1], ARGV[1])
"""

# One round trip between two batches: acknowledge the last one, then hand out the next.
#
# KEYS[1] votes   KEYS[2] processing   KEYS[3] fence   KEYS[4] dead
# ARGV[1] token   ARGV[2] votes to acknowledge   ARGV[3] most votes   ARGV[4] most bytes   ARGV[5..] dead letters
# Returns {0} to a superseded run, {2} where `votes` is no list, else {1, oldest vote, next, ...}.
#
# Dead letters are pushed before the trim. RENAME takes any backlog at once, and only when nothing is in process: one
# generation at a time keeps the order, and a crash leaves the batch where the next run starts. The range is read in
# steps, so that hostile megabytes are not all copied before the limit is noticed.
CLAIM = """
local seen = tonumber(redis.call('GET', KEYS[3]) or '0')
if seen > tonumber(ARGV[1]) then return {0} end
if seen < tonumber(ARGV[1]) then redis.call('SET', KEYS[3], ARGV[1]) end
for i = 5, #ARGV do redis.call('RPUSH', KEYS[4], ARGV[i]) end
if tonumber(ARGV[2]) > 0 then redis.call('LTRIM', KEYS[2], 0, -1 - ARGV[2]) end
local waiting = redis.call('LLEN', KEYS[2])
if waiting == 0 then
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'none' then return {1} end
  if kind ~= 'list' then return {2} end
  redis.call('RENAME', KEYS[1], KEYS[2])
  waiting = redis.call('LLEN', KEYS[2])
end
local most, bytes, largest, batch = math.min(waiting, ARGV[3]), 0, 1, {1}
while #batch <= most do
  local taken = #batch - 1
  local step = math.max(1, math.min(256, most - taken, math.floor((ARGV[4] - bytes) / largest)))
  local votes = redis.call('LRANGE', KEYS[2], -taken - step, -taken - 1)
  for i = #votes, 1, -1 do
    bytes = bytes + #votes[i]
    if bytes > tonumber(ARGV[4]) and #batch > 1 then return batch end
    largest = math.max(largest, #votes[i])
    batch[#batch + 1] = votes[i]
  end
end
return batch
"""


class QueueUnavailable(Exception):
    """Redis did not take the vote: it is away, loading, read-only or out of memory. Nothing was recorded."""


class NotAList(Exception):
    """The key `votes` holds something else; it is left alone until an operator has looked at it."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that is no vote, and why."""

    reason: str
    message: bytes

    def encode(self) -> bytes:
        """JSON with `reason`, `at` (ms since the epoch) and `payload`, or `payload_base64` where it is not UTF-8.

        Over 64 KB the payload is cut, and `length` (bytes) and `sha256` of the whole stand beside it.
        """
        letter: dict[str, object] = {"reason": self.reason, "at": time.time_ns() // 1_000_000}
        kept = self.message[:LONGEST_DEAD_PAYLOAD]
        if len(kept) < len(self.message):
            letter |= {"length": len(self.message), "sha256": hashlib.sha256(self.message).hexdigest()}
        try:
            letter["payload"] = kept.decode()
        except UnicodeDecodeError:
            letter["payload_base64"] = base64.b64encode(kept).decode()
        return json.dumps(letter).encode()


class VoteQueue:
    """Votes waiting to be counted: pushed at the head of one Redis list, claimed from its tail."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._push = redis.register_script(PUSH)
        self._claim = redis.register_script(CLAIM)
        self._answer_within_s: float = redis.get_connection_kwargs()["socket_timeout"]
        self._ahead_us: int | None = None  # how far Redis' clock is ahead of our monotonic one, at least

    def push(self, vote: Vote) -> None:
        """Queue *vote*; return once Redis has it.

        Raises:
            QueueUnavailable: within 2 s, and the vote will not appear later on.
        """
        give_up = time.monotonic() + PUSH_WITHIN_S
        failure: Exception | None = None
        for _ in range(ATTEMPTS):
            if time.monotonic() >= give_up:
                break
            try:
                if self._push(keys=[VOTES], args=[vote.encode(), self._deadline(give_up)]):
                    return
                self._ahead_us = None  # our clock stood still (a frozen environment) or Redis' was set: compare anew
            except RedisError as error:
                failure = error
                self._redis.connection_pool.disconnect()  # dead, or a primary that has become a replica
        raise QueueUnavailable("Redis did not take the vote") from failure

    def claim(
        self, token: int, *, most: int, most_bytes: int, acknowledge: int = 0, dead: Sequence[DeadLetter] = ()
    ) -> list[bytes]:
        """Acknowledge the last batch, its *dead* letters included, and return the oldest messages, oldest first.

        The messages stay in Redis until they are acknowledged. A call without an answer must not be repeated as it
        was: claim again with nothing to acknowledge.

        Raises:
            Superseded: a newer run has claimed; nothing was changed.
            NotAList: what was to be acknowledged is; `votes` is untouched.
            redis.RedisError: Redis did not answer or refused.
        """
        answer: list[Any] = self._claim(
            keys=[VOTES, PROCESSING, FENCE, DEAD],
            args=[token, acknowledge, most, most_bytes, *(letter.encode() for letter in dead)],
        )
        status = answer.pop(0)
        if status == 0:
            raise Superseded
        if status == 2:
            raise NotAList
        return answer

    def wait(self, timeout_s: float) -> bool:
        """Wait for a vote; move it into the batch in process, in order, and return whether there was one.

        *timeout_s* must be below the client's socket timeout.

        Raises:
            redis.RedisError: Redis did not answer, or `votes` is no list.
        """
        return self._redis.blmove(VOTES, PROCESSING, timeout_s, "RIGHT", "LEFT") is not None  # type: ignore[arg-type] # Redis takes fractions

    def greatest_token(self) -> int:
        """The greatest token that a claim has shown; 0 before the first."""
        return int(self._redis.get(FENCE) or 0)

    def length(self) -> int:
        """Votes that wait, the batch in process included."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.llen(VOTES)
            pipeline.llen(PROCESSING)
            return sum(pipeline.execute())

    def _deadline(self, give_up: float) -> int:
        """Until when Redis may take the push now sent: as long as this attempt waits for the answer."""
        if self._ahead_us is None:
            seconds, microseconds = self._redis.time()
            # The answer is at least as old as now: the deadline errs to the early side only.
            self._ahead_us = seconds * 1_000_000 + microseconds - int(time.monotonic() * 1_000_000)
        until = min(give_up, time.monotonic() + self._answer_within_s)
        return int(until * 1_000_000) + self._ahead_us
