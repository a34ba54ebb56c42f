"""Limits how many frames a connection may send, and closes those that exceed it.

API Gateway throttles a route, not a connection: one client that sends without a pause uses up the route for all. A page
needs one frame per 20 seconds.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from voting.broadcast.frame_counts import WINDOW_S, FrameCounts
from voting.broadcast.websocket_api import forget
from voting.clients import Clients
from voting.observability import tell

if TYPE_CHECKING:
    from voting.broadcast.poster import Poster

MOST = 20  # frames per connection and WINDOW_S; a page that its reader often returns to sends a few extra ones
UNNOTICED = 4  # of them per execution environment that Redis is not asked about: honest clients cost it nothing
TELL_WITHIN_S = 1.0  # the client may not read what it is sent
CLOSE_WITHIN_S = 3.0
TOO_MANY = json.dumps(
    {
        "type": "error",
        "code": "too_many_frames",
        "message": f"More than {MOST} frames within {WINDOW_S:.0f} seconds. This connection is closed.",
    }
).encode()


class Verdict(Enum):
    """What to do with a frame."""

    ANSWER = "answer"
    TELL = "tell and close"  # the first frame above the limit
    CLOSE = "close"  # frames keep coming: the first attempt to close may have failed
    IGNORE = "ignore"  # the connection is being closed


class Meter:
    """Counts the frames of each connection: the first few in this execution environment, the others in Redis.

    So a flood that is spread over many environments is noticed, apart from the first UNNOTICED frames in each. While
    Redis is unavailable, each environment decides on its own.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Count by *clock*, which returns seconds and is the same in all environments."""
        self._clock = clock
        self._since = float("-inf")
        self._counts: Counter[str] = Counter()

    def forget(self) -> None:
        """Start afresh, as a new execution environment does."""
        self._since = float("-inf")
        self._counts.clear()

    def judge(self, connection_id: str, clients: Clients) -> Verdict:
        """Count one frame of *connection_id*, and return what to do with it."""
        here = self._count_here(connection_id)
        if here <= UNNOTICED:
            return Verdict.ANSWER
        more = here if here == UNNOTICED + 1 else 1
        try:
            total = FrameCounts(clients.redis()).add(connection_id, more, self._clock())
        except RedisError:
            more, total = 1, here
        if total <= MOST:
            return Verdict.ANSWER
        if total - more <= MOST:
            return Verdict.TELL
        return Verdict.CLOSE if total // MOST > (total - more) // MOST else Verdict.IGNORE

    def _count_here(self, connection_id: str) -> int:
        now = self._clock()
        if not 0 <= now - self._since < WINDOW_S:
            self._since = now
            self._counts.clear()
        self._counts[connection_id] += 1
        return self._counts[connection_id]


def end(verdict: Verdict, connection_id: str, clients: Clients, poster: "Poster") -> None:
    """Close a connection that sends too many frames, if *verdict* says so; tell the client why, once.

    Raises:
        poster.Forbidden: the function is not allowed to close connections.
    """
    if verdict is Verdict.TELL:
        poster.post([connection_id], TOO_MANY, within_s=TELL_WITHIN_S)
        tell("closed a connection that sent too many frames", most=MOST, within_s=WINDOW_S)
    if verdict in {Verdict.TELL, Verdict.CLOSE}:
        poster.disconnect([connection_id], within_s=CLOSE_WITHIN_S)
        forget([connection_id], clients)
