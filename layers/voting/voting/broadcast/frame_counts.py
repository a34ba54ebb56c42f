"""How many frames each connection has sent recently, counted over all execution environments."""

from typing import TYPE_CHECKING

from voting.lua import script

if TYPE_CHECKING:
    from redis import Redis

WINDOW_S = 20.0
FRAMES = "{votes}:frames"
COUNT = script("broadcast", "count_frames")


class FrameCounts:
    """One hash: frames in the current window, by connection that has sent more than a few."""

    def __init__(self, redis: "Redis") -> None:
        self._count = redis.register_script(COUNT)

    def add(self, connection_id: str, more: int, now: float) -> int:
        """Count *more* frames of *connection_id* at *now*, in seconds since the epoch; return its total so far."""
        return int(self._count(keys=[FRAMES], args=[connection_id, more, round(now * 1000), round(WINDOW_S * 1000)]))
