"""Turns: the posts of a broadcast come all at once, and give way to urgent work."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE_S = 0.002  # of posts, after which the event loop may serve votes


class Turns:
    """A queue of callbacks, in order."""

    def __init__(self, is_urgent: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """Call all that wait in one go, but for one slice of time only while *is_urgent* says that others wait."""
        self._is_urgent = is_urgent
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def wait(self, serve: Callable[[], None]) -> None:
        """Have *serve* called once, after those that wait already."""
        self._waiting.append(serve)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Call those that wait; what is left goes on after the event loop has done its other work."""
        end = self._clock() + SLICE_S
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft()()
                if self._clock() >= end and self._is_urgent():
                    break
        finally:
            self._is_scheduled = False
            if self._waiting:
                self._schedule()
