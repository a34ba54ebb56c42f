"""The newest tally, kept in Redis for all readers."""

import json
from typing import TYPE_CHECKING, NamedTuple

from voting.lua import script
from voting.question import Question
from voting.queue.queue_view import HANDED_BACK, PROCESSING, PROGRESS, VOTES
from voting.results.results import PING_S, Results
from voting.tally import Tally

if TYPE_CHECKING:
    from redis import Redis

SNAPSHOT = "{votes}:snapshot"
TROUBLE = "{votes}:trouble:results"  # errors that keep a run from writing the snapshot or starting broadcasts
FRESH_S = 5.0  # the worker confirms the snapshot every second; an older one means that no worker can

WRITE = script("results", "write", "behind")
NOTE_TOLD = script("results", "note_told")


class Snapshot(NamedTuple):
    """A tally, and how long ago the database confirmed it (by the clock of Redis)."""

    tally: Tally
    age_s: float
    behind_s: float = 0.0  # at that time: how long messages had waited while none was counted
    ping_s: int = PING_S

    @property
    def stale_s(self) -> float | None:
        """The age of the tally: since when it is unconfirmed, or votes wait that it does not include.

        None if it is fresh.
        """
        if self.age_s <= FRESH_S and self.behind_s <= FRESH_S:
            return None
        return self.age_s + self.behind_s

    def results(self, question: Question) -> Results:
        """The results, with their age if they are stale."""
        stale_s = self.stale_s
        return Results.of(self.tally, question, None if stale_s is None else round(stale_s), self.ping_s)


class Snapshots:
    """One hash in Redis: the last tally of the database, and its time. Its version never decreases."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._write = redis.register_script(WRITE)
        self._told = redis.register_script(NOTE_TOLD)

    def write(self, tally: Tally, ping_s: int = PING_S) -> tuple[int, float]:
        """Write *tally* unless Redis has a newer one.

        Returns the version that Redis has now, and for how many seconds messages have waited while none was counted.
        """
        counts = json.dumps(dict(tally.counts), separators=(",", ":"))
        keys = [SNAPSHOT, VOTES, PROCESSING, PROGRESS, HANDED_BACK]
        version, behind_ms = self._write(keys=keys, args=[tally.version, counts, ping_s])
        return int(version), behind_ms / 1000

    def note_told(self, *, is_stale: bool) -> None:
        """Record for the next run of the worker whether the last broadcast marked the results as stale."""
        self._told(keys=[SNAPSHOT], args=["stale" if is_stale else "fresh"])

    def was_told_stale(self) -> bool:
        """Whether the last broadcast marked the results as stale."""
        return self._redis.hget(SNAPSHOT, "told") == b"stale"

    def read(self) -> Snapshot | None:
        """The newest tally; None if the worker has never written one."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.hmget(SNAPSHOT, "version", "counts", "at", "behind", "ping_s")
            (seconds, microseconds), (version, counts, at, behind, ping_s) = pipeline.execute()
        if version is None:
            return None
        try:
            age_s = seconds + microseconds / 1e6 - int(at) / 1000
            tally = Tally(int(version), json.loads(counts))
            # A time in the future means that the clock of Redis was set back. A running worker corrects it at once.
            return Snapshot(tally, abs(age_s), int(behind or 0) / 1000, int(ping_s or PING_S))
        except (ValueError, TypeError):  # malformed: the worker will write another
            return None
