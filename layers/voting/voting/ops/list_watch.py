"""What others do with the list: seen by looking at its ends again and again."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from voting.queue.queue_view import QueueView

WINDOW = 100  # messages at each end: what may come or go between two looks
LOOK_EVERY_S = 0.02


@dataclass(slots=True)
class Traffic:
    """Messages that came and went at each end of the list."""

    looks: int = 0
    filled: int = 0  # looks that found messages
    head_pushes: int = 0
    tail_pushes: int = 0
    head_pops: int = 0
    tail_pops: int = 0
    emptied: int = 0  # taken to the last between two looks, from whatever end

    @property
    def is_drained(self) -> bool:
        return bool(self.head_pops or self.tail_pops or self.emptied)


def watch(queue: QueueView, seconds: float) -> Traffic:
    """Look at the ends of the list for *seconds*. More than 100 changes between two looks, 20 ms apart, go unseen."""
    traffic = Traffic()
    end = time.monotonic() + seconds
    before = queue.ends(WINDOW)
    while time.monotonic() < end:
        time.sleep(LOOK_EVERY_S)
        now = queue.ends(WINDOW)
        _compare(before, now, traffic)
        before = now
    return traffic


def _compare(
    before: tuple[Sequence[bytes], Sequence[bytes]], now: tuple[Sequence[bytes], Sequence[bytes]], traffic: Traffic
) -> None:
    traffic.looks += 1
    traffic.filled += bool(now[0])
    if not before[0] or not now[0]:
        traffic.emptied += bool(before[0])
        return
    head, tail = _shift(before[0], now[0]), _shift(before[1][::-1], now[1][::-1])
    traffic.head_pushes += max(0, head)
    traffic.head_pops += max(0, -head)
    traffic.tail_pushes += max(0, tail)
    traffic.tail_pops += max(0, -tail)


def _shift(before: Sequence[bytes], now: Sequence[bytes]) -> int:
    """By how many messages the end grew (or, below zero, shrank); 0 also where nothing of it is recognized."""
    for count in range(len(now)):
        rest = min(len(before), len(now) - count)
        if now[count : count + rest] == before[:rest]:
            return count
    for count in range(1, len(before)):
        rest = min(len(now), len(before) - count)
        if before[count : count + rest] == now[:rest]:
            return -count
    return 0
