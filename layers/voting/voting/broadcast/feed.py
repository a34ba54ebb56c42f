"""What a poster is fed: connections with frames, one at a time, and how fast it may take them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


class Feed(Protocol):
    """Whoever knows what is to be posted next. It is asked shortly before the post begins."""

    def next(self) -> tuple[str, bytes] | None:
        """The next connection id, which is not on its way already, and its frame; None when there is nothing more."""
        ...

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        """Hear that *connection_id* was sent its frame or is gone, or that it could not be reached."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast a feed may be posted, and for how long."""

    pace: float = math.inf  # attempts a second
    head_start_s: float = 0.0  # so much of the pace may go out at once
    within_s: float = 20.0  # then nothing more begins, and who is throttled is left
    linger_s: float = math.inf  # for each answer that is still out when the feed has ended, unless most are

    def allowed(self, elapsed_s: float) -> float:
        """How many attempts may have begun after *elapsed_s*."""
        return math.inf if math.isinf(self.pace) else self.pace * (elapsed_s + self.head_start_s)

    def due_s(self, attempt: int) -> float:
        """When the *attempt*-th, counted from 1, may begin: after so many seconds."""
        return attempt / self.pace - self.head_start_s  # 0 without a pace


UNLIMITED = Limits()


class SameFrame:
    """One frame for each of some connections."""

    def __init__(self, connection_ids: Iterable[str], frame: bytes) -> None:
        self._connection_ids: Iterator[str] = iter(connection_ids)
        self._frame = frame

    def next(self) -> tuple[str, bytes] | None:
        connection_id = next(self._connection_ids, None)
        return None if connection_id is None else (connection_id, self._frame)

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        """Nobody asks."""
