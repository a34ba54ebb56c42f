"""The parked messages, for an operator: looked at, queued again, dropped."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from voting.dead_letter import DeadLetter
from voting.queue_view import DEAD, PAGE, PROCESSING, VOTES

MOST_QUEUED = 20_000  # messages that a requeueing looks through while Redis does nothing else: some 40 ms

# At the tail they are older than whatever waits, and only what is still parked moves: whatever dies, every letter is in
# one of the lists, and in one only.
#
# KEYS[1] votes   KEYS[2] processing   KEYS[3] dead
# ARGV[1] most messages to look through for other votes of the same voters; 0 to look at none
# ARGV[2..] by threes, the newest first: letter, its message, its voter
# Returns how many moved; -1 where more messages are queued than may be looked through.
REQUEUE = """
local queued, most = {}, tonumber(ARGV[1])
if most > 0 then
  if redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) > most then return -1 end
  for key = 1, 2 do
    for _, message in ipairs(redis.call('LRANGE', KEYS[key], 0, -1)) do
      local parsed, fields = pcall(cjson.decode, message)
      local voter_id = parsed and type(fields) == 'table' and fields.voter_id
      if type(voter_id) == 'string' then queued[voter_id] = true end
    end
  end
end
local moved = 0
for i = 2, #ARGV, 3 do
  if not queued[ARGV[i + 2]] and redis.call('LREM', KEYS[3], 1, ARGV[i]) == 1 then
    redis.call('RPUSH', KEYS[1], ARGV[i + 1])
    moved = moved + 1
  end
end
return moved
"""

# KEYS[1] dead
# ARGV letters
# Returns how many were there to be dropped.
DROP = """
local dropped = 0
for _, letter in ipairs(ARGV) do dropped = dropped + redis.call('LREM', KEYS[1], 1, letter) end
return dropped
"""


class TooManyQueued(Exception):
    """More votes are queued than can be looked through at once; the list is short again once it has been drained."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A dead letter as it lies in the list, which is what names it."""

    raw: bytes
    letter: DeadLetter


class DeadLetters:
    """The list that claims park messages in, the oldest letter first."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._requeue = redis.register_script(REQUEUE)
        self._drop = redis.register_script(DROP)

    def read(self, reason: str | None = None) -> Iterator[Parked]:
        """All letters, or those of one *reason*, oldest first."""
        start = 0
        while True:
            page: list[Any] = self._redis.lrange(DEAD, start, start + PAGE - 1)
            if not page:
                return
            start += len(page)
            for raw in page:
                letter = DeadLetter.decode(raw)
                if reason in {None, letter.reason}:
                    yield Parked(raw, letter)

    def count(self) -> Counter[str]:
        """How many letters there are of each reason."""
        return Counter(parked.letter.reason for parked in self.read())

    def requeue(self, letters: Sequence[tuple[Parked, str]], *, unless_queued: bool) -> int:
        """Move *letters*, each with its voter and oldest first, to the tail of `votes`; return how many moved.

        All at once. *unless_queued* leaves those whose voter has another vote in the list or in process.

        Raises:
            TooManyQueued: so many messages are queued that looking for those votes would hold up Redis.
        """
        arguments: list[bytes | str] = []
        for parked, voter_id in reversed(letters):
            arguments += [parked.raw, parked.letter.message, voter_id]
        most = MOST_QUEUED if unless_queued else 0
        moved = int(self._requeue(keys=[VOTES, PROCESSING, DEAD], args=[most, *arguments]))
        if moved < 0:
            raise TooManyQueued
        return moved

    def drop(self, letters: Sequence[Parked]) -> int:
        """Delete *letters*; return how many were still there."""
        return int(self._drop(keys=[DEAD], args=[parked.raw for parked in letters]))
