"""Limits log lines that strangers can cause at will: a flood of bad input must not become a bill."""

import time
from collections.abc import Callable

EVERY_S = 1.0


class Sampler:
    """Admits one event of each kind per second, and adds the others to the next one that it admits.

    Kinds come from our own code and never from a request, so there are few of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def forget(self) -> None:
        """Start afresh, as a new execution environment does."""
        self._told_at.clear()
        self._untold.clear()

    def admit(self, kind: str, events: int = 1) -> int:
        """Return how many events of *kind* to log now, including those held back before; 0 to log nothing."""
        untold = self._untold.pop(kind, 0) + events
        now = self._clock()
        if now - self._told_at.get(kind, float("-inf")) < EVERY_S:
            self._untold[kind] = untold
            return 0
        self._told_at[kind] = now
        return untold
