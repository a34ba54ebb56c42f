"""When the worker claims next: votes that trickle in are stored together, in time for the broadcast that shows them."""

from collections.abc import Callable
from dataclasses import dataclass

GATHER_S = 0.05  # the least interval of broadcasts: storing more often costs commits, and shows nobody anything sooner
WEIGHT = 0.2  # of the last batch's time beside all earlier ones


@dataclass(slots=True)
class Cadence:
    """The rest between two batches where none is full. A vote that comes after a lull is stored at once.

    A batch is claimed so long before the next turn of broadcasts as batches take, so that it is part of it; where none
    is planned, GATHER_S after the last claim. Its times are those of `time.monotonic`, in seconds.
    """

    next_turn_at: Callable[[], float]  # before which nobody is sent anything new; a time that is past where none is
    _claimed_at: float = float("-inf")
    _takes_s: float = 0.0

    def claimed(self, now: float) -> None:
        """A batch is on its way since *now*."""
        self._claimed_at = now

    def stored(self, now: float) -> None:
        """The batch claimed last is in the table."""
        self._takes_s += WEIGHT * (now - self._claimed_at - self._takes_s)

    def rest_s(self, now: float) -> float:
        """How long to wait with the next claim; zero or less where it is due.

        It is to be asked again after that time: the turn that the last batch was part of may have been set off since.
        """
        due = self._claimed_at + GATHER_S
        in_time = self.next_turn_at() - self._takes_s
        if self._claimed_at < in_time < due + GATHER_S:
            due = in_time
        return due - now
