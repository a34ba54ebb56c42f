"""The messages that wait in the Redis list of votes and those in process: read only.

Every key that belongs to the list carries the hash tag `{votes}`, so that a cluster keeps all of them in one slot.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from voting.lua import script

if TYPE_CHECKING:
    from redis import Redis

VOTES = "votes"
PROCESSING = "{votes}:processing"
FENCE = "{votes}:fence"
DEAD = "{votes}:dead"
DEAD_ACCOUNT = "{votes}:dead:account"  # of the letters dropped or shortened to make room
CLAIMED = "{votes}:claimed"  # since when a batch is in process: ms since the epoch by the clock of Redis
HANDED_BACK = "{votes}:handed_back"  # since when another worker drains the list, in the same unit
HANDED_OUT = "{votes}:handed_out"  # name of the last claim that was given a batch: only that batch may be acknowledged
PROGRESS = "{votes}:progress"  # when a batch was last acknowledged, or nothing waited; in the same unit
TROUBLE = "{votes}:trouble:counting"  # what keeps a run from counting, until a batch is acknowledged
TRIAL = "{votes}:trial"  # pushed to and deleted at once, to see whether a vote would be accepted

KEYS = (VOTES, PROCESSING, FENCE, DEAD, CLAIMED, HANDED_BACK, HANDED_OUT, PROGRESS, TROUBLE)

STALLED_AFTER_S = 15.0  # without an acknowledged batch while messages wait: a batch takes a second or two

REPLICA_WITHIN_MS = 500  # for a trial; a replica that is well confirms within a millisecond or two

PAGE = 200  # messages that are read at a time

LOOK = script("queue", "backlog", "behind")
TRY_PUSH = script("queue", "try_push")
ENDS = script("queue", "ends")

Counting = Literal["ok", "stalled", "handed_back"]


class Backlog(NamedTuple):
    """The list and its batch at one moment. Ages are by the clock of Redis."""

    kind: str  # type of the key `votes`: list, none, or one that should not be there
    waiting: int
    in_process: int
    batch_age_s: float | None  # since the batch was first handed out; None without one
    dead: int
    handed_back_s: float | None  # for how long; None if the list is ours to drain
    behind_s: float  # for how long messages have waited without an acknowledged batch; 0.0 if another worker drains

    @property
    def length(self) -> int:
        return self.waiting + self.in_process

    @property
    def counting(self) -> Counting:
        """Whether the messages that wait are being counted."""
        if self.handed_back_s is not None:
            return "handed_back"
        return "stalled" if self.behind_s > STALLED_AFTER_S else "ok"


class QueueView:
    """Reads the list of votes and the batch in process."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._look = redis.register_script(LOOK)
        self._try_push = redis.register_script(TRY_PUSH)
        self._ends = redis.register_script(ENDS)

    def backlog(self) -> Backlog:
        """Return all of it, at one moment."""
        kind, waiting, in_process, dead, claimed_s, handed_back_s, behind_s = self._look(keys=KEYS)
        return Backlog(
            kind=kind.decode(),
            waiting=waiting,
            in_process=in_process,
            dead=dead,
            batch_age_s=float(claimed_s) if in_process and claimed_s else None,
            handed_back_s=float(handed_back_s) if handed_back_s else None,
            behind_s=float(behind_s),
        )

    def takes_votes(self, *, confirm_by_replica: bool = False) -> bool:
        """Whether a vote could be pushed now, and a replica would confirm it if one must.

        Raises:
            redis.RedisError: Redis does not answer, or refuses; a vote would meet the same error.
        """
        if not confirm_by_replica:
            return bool(self._try_push(keys=[VOTES, TRIAL]))
        # WAIT is about the writes of its own connection.
        with self._redis.client() as connection:  # type: ignore[no-untyped-call]
            takes = self._try_push(keys=[VOTES, TRIAL], client=connection)
            return bool(takes and connection.wait(1, REPLICA_WITHIN_MS))

    def length(self) -> int:
        """Return the number of messages that wait or are in process."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.llen(VOTES)
            pipeline.llen(PROCESSING)
            return sum(pipeline.execute())

    def messages(self, *, in_process: bool) -> Iterator[bytes]:
        """Yield the messages in process, or those that wait, oldest first; exact only while no worker drains."""
        key = PROCESSING if in_process else VOTES
        for last in range(-1, -1 - self._redis.llen(key), -PAGE):
            page: list[Any] = self._redis.lrange(key, last - PAGE + 1, last)
            yield from reversed(page)

    def ends(self, most: int) -> tuple[list[bytes], list[bytes]]:
        """Return up to *most* messages at the head and at the tail of `votes`, each from head to tail."""
        head, tail = self._ends(keys=[VOTES], args=[most])
        return head, tail

    def greatest_token(self) -> int:
        """Return the greatest token of any claim so far; 0 before the first."""
        return int(self._redis.get(FENCE) or 0)
