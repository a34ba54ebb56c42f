"""When the worker claims next: votes that trickle in are stored together, in time for the broadcast that shows them."""

from collections.abc import Callable
from dataclasses import dataclass

GATHER_S = 0.05  # the shortest interval of broadcasts: to store more often costs commits and shows nothing sooner
DURATION_WEIGHT = 0.2  # of the last batch in the moving average of how long a batch takes


@dataclass(slots=True)
class BatchPacing:
    """The pause between two batches that are not full. A vote that comes after a lull is stored at once.

    A batch is claimed early enough to be part of the next broadcast; if none is planned, GATHER_S after the last claim.
    All times are those of `time.monotonic`, in seconds.
    """

    next_turn_at: Callable[[], float]  # time of the next broadcast; in the past if none is planned
    _claimed_at: float = float("-inf")
    _takes_s: float = 0.0

    def claimed(self, now: float) -> None:
        """Note that a batch is on its way since *now*."""
        self._claimed_at = now

    def stored(self, now: float) -> None:
        """Note that the batch claimed last is in the table."""
        self._takes_s += DURATION_WEIGHT * (now - self._claimed_at - self._takes_s)

    def rest_s(self, now: float) -> float:
        """How long to wait before the next claim; zero or less if it is due.

        Ask again after that time: the broadcast that the last batch is part of may have begun since.
        """
        due = self._claimed_at + GATHER_S
        in_time = self.next_turn_at() - self._takes_s
        if self._claimed_at < in_time < due + GATHER_S:
            due = in_time
        return due - now
