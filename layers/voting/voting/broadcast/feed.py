"""The input of a poster: connections with their frames, one at a time, and the limits on its pace."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


class Feed(Protocol):
    """A source of posts. The poster asks for each post just before it makes it."""

    def next(self) -> tuple[str, bytes] | None:
        """Return a connection id that has no post in flight, and its frame; None at the end."""
        ...

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        """Called once per connection: it was sent its frame or is gone, or it could not be reached."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast posts may be made, and for how long."""

    pace: float = math.inf  # attempts per second
    head_start_s: float = 0.0  # a burst: this many seconds' worth of attempts may begin at once
    within_s: float = 20.0  # after this, no attempt begins, and pending retries fail
    linger_s: float = math.inf  # how long to wait for each of the last responses; longer if most are missing

    def allowed(self, elapsed_s: float) -> float:
        """Return how many attempts may have begun after *elapsed_s*."""
        return math.inf if math.isinf(self.pace) else self.pace * (elapsed_s + self.head_start_s)

    def due_s(self, attempt: int) -> float:
        """Return after how many seconds the *attempt*-th attempt, counted from 1, may begin."""
        return attempt / self.pace - self.head_start_s  # 0 without a pace


UNLIMITED = Limits()


class SameFrame:
    """The same frame for each of some connections."""

    def __init__(self, connection_ids: Iterable[str], frame: bytes) -> None:
        self._connection_ids: Iterator[str] = iter(connection_ids)
        self._frame = frame

    def next(self) -> tuple[str, bytes] | None:
        connection_id = next(self._connection_ids, None)
        return None if connection_id is None else (connection_id, self._frame)

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        """Do nothing: the outcome tells everything."""
