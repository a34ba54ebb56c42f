"""What a run of the worker reports: sums, metrics, and log lines, few of them however much goes wrong."""

import time
from collections.abc import Sequence

from voting.database.fault import Fault
from voting.observability import MetricUnit, metrics, publish, tell
from voting.queue.dead_letter import REFUSED, DeadLetter
from voting.queue.dead_letter_room import DeadLetterRoom
from voting.queue.queue_view import QueueView
from voting.worker.batch import Counted

FLUSH_METRICS_EVERY_S = 10.0


class Journal:
    """Keeps the sums of a run, and reports them."""

    def __init__(self, queue: QueueView, room: DeadLetterRoom) -> None:
        self.counted = Counted()
        self._queue = queue
        self._room = room
        self._flushed_at = time.monotonic()

    def refused(self, votes: int, fault: Fault) -> None:
        """Report that the database refused a batch, or was down."""
        tell("a batch was refused", votes=votes, cause=fault.sentence())

    def measure(self, stored: int, changed: int, dead: Sequence[DeadLetter], batch_ms: float) -> None:
        """Count and report a batch that has been stored or parked."""
        counted = self.counted
        counted.stored += stored
        counted.changed += changed
        counted.parked += len(dead)
        counted.batches += 1
        for reason in sorted({letter.reason for letter in dead}):
            what = "the database refuses a vote" if reason == REFUSED else "parked invalid messages"
            tell(what, reason, events=sum(letter.reason == reason for letter in dead), reason=reason)
        metrics.add_metric("VotesStored", MetricUnit.Count, stored)
        metrics.add_metric("VotesParked", MetricUnit.Count, len(dead))
        metrics.add_metric("BatchSize", MetricUnit.Count, stored + len(dead))
        metrics.add_metric("BatchTime", MetricUnit.Milliseconds, batch_ms)

    def gauge(self) -> None:
        """Publish the metrics every few seconds, also while no batch gets through."""
        if time.monotonic() - self._flushed_at > FLUSH_METRICS_EVERY_S:
            backlog = self._queue.backlog()
            self._flushed_at = time.monotonic()
            metrics.add_metric("QueueLength", MetricUnit.Count, backlog.length)
            metrics.add_metric("NotCountedFor", MetricUnit.Seconds, backlog.behind_s)
            metrics.add_metric("DeadLetters", MetricUnit.Count, backlog.dead)
            metrics.add_metric("DeadLettersFull", MetricUnit.Count, int(self._room.is_full()))
            publish()
