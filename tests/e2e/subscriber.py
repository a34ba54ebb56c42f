"""A subscriber by the `websockets` library: what came in, in the order in which it came."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.stack import DEADLINE_S, PATIENCE

Frame = dict[str, Any]


class Subscriber:
    """One connection. `frames` holds every frame that was read, of whatever type."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._closing = ExitStack()
        self.socket: ClientConnection
        self.frames: list[Frame] = []

    def __enter__(self) -> Self:
        # No limit on what waits to be read, so that a test that is busy elsewhere holds up nobody.
        self.socket = self._closing.enter_context(connect(self._url, proxy=None, max_queue=None))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def send(self, action: str) -> None:
        self.socket.send(json.dumps({"action": action}))

    def ask(self, frame: str | bytes) -> Frame:
        """Send *frame* as it is, and return the next frame that is no results."""
        self.socket.send(frame)
        return self._read(lambda answer: answer["type"] != "results", f"the answer to {frame!r}", DEADLINE_S)

    def until(self, wanted: Callable[[Frame], bool], what: str, within_s: float = DEADLINE_S) -> Frame:
        """Return the next results that are *wanted*.

        Raises:
            AssertionError: there were none within *within_s*; with *what* was waited for and what came instead.
        """
        return self._read(lambda frame: frame["type"] == "results" and wanted(frame), what, within_s)

    def total(self, total: int) -> Frame:
        """Return the next results with *total* votes."""
        return self.until(lambda frame: frame["total"] == total, f"a total of {total}")

    def versions(self) -> list[int]:
        return [frame["version"] for frame in self.frames if frame["type"] == "results"]

    def _read(self, wanted: Callable[[Frame], bool], what: str, within_s: float) -> Frame:
        deadline = time.monotonic() + within_s * PATIENCE
        first = len(self.frames)
        while True:
            try:
                frame = json.loads(self.socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"waited in vain for {what}; there came {self.frames[first:]}") from None
            self.frames.append(frame)
            if wanted(frame):
                return frame
