"""How often a connection sends frames, and the end of those that flood.

API Gateway throttles a route, not a connection: one that sends without a pause takes the route from everybody. A page
needs a frame in 20 seconds.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum

from redis.exceptions import RedisError

from voting.broadcast.frame_counts import WINDOW_S, FrameCounts
from voting.broadcast.poster import Poster
from voting.broadcast.websocket_api import forget
from voting.clients import Clients
from voting.observability import tell

MOST = 20  # frames of one connection within WINDOW_S; a page that its reader turns to again and again sends some more
UNNOTICED = 4  # of them that each execution environment keeps to itself: honest clients cost Redis nothing
TELL_WITHIN_S = 1.0  # a flooder that does not read its answers
CLOSE_WITHIN_S = 3.0
TOO_MANY = json.dumps(
    {
        "type": "error",
        "code": "too_many_frames",
        "message": f"More than {MOST} frames within {WINDOW_S:.0f} seconds. This connection is closed.",
    }
).encode()


class Verdict(Enum):
    """What becomes of a frame."""

    ANSWER = "answer"
    TELL = "tell and close"  # the first one too many
    CLOSE = "close"  # it goes on: the first attempt may have failed
    IGNORE = "ignore"  # it is being closed


class Meter:
    """How many frames connections have sent: in this execution environment, and from the fifth on in all of them.

    A flood that is spread over many environments is counted in Redis, less the first few of each. Where Redis is away,
    each environment decides by itself.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Count on a *clock* in seconds that is the same in all environments."""
        self._clock = clock
        self._since = float("-inf")
        self._counts: Counter[str] = Counter()

    def judge(self, connection_id: str, clients: Clients) -> Verdict:
        """Count one frame of *connection_id*, and say what is to become of it."""
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


def end(verdict: Verdict, connection_id: str, clients: Clients, poster: Poster) -> None:
    """Close the connection that floods, as far as *verdict* says; tell it once why.

    Raises:
        poster.Forbidden: the function may not close connections.
    """
    if verdict is Verdict.TELL:
        poster.post([connection_id], TOO_MANY, within_s=TELL_WITHIN_S)
        tell("closed a connection that sent too many frames", most=MOST, within_s=WINDOW_S)
    if verdict in {Verdict.TELL, Verdict.CLOSE}:
        poster.disconnect([connection_id], within_s=CLOSE_WITHIN_S)
        forget([connection_id], clients)
