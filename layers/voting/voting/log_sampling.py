"""How often the logs tell of what strangers can cause at will: a flood of bad input must not become a bill."""

import time
from collections.abc import Callable

EVERY_S = 1.0


class Sampler:
    """Lets one event of each kind through a second, and counts the others towards the next that gets through.

    Kinds come from our own code, never from a request, so there are few of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def forget(self) -> None:
        """Begin again, as a new execution environment does."""
        self._told_at.clear()
        self._untold.clear()

    def admit(self, kind: str, events: int = 1) -> int:
        """How many events of *kind* to tell of now, those kept back before included; 0 where to keep silent."""
        untold = self._untold.pop(kind, 0) + events
        now = self._clock()
        if now - self._told_at.get(kind, float("-inf")) < EVERY_S:
            self._untold[kind] = untold
            return 0
        self._told_at[kind] = now
        return untold
