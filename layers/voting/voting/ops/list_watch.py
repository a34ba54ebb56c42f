"""What other programs do with the list, found by polling its ends."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from voting.queue.queue_view import QueueView

WINDOW = 100  # messages at each end; more changes between two samples go unseen
SAMPLE_EVERY_S = 0.02


@dataclass(slots=True)
class ListActivity:
    """Messages that were added and removed at each end of the list."""

    filled: int = 0  # samples in which the list held messages
    head_pushes: int = 0
    tail_pushes: int = 0
    head_pops: int = 0
    tail_pops: int = 0
    emptied: int = 0  # times that the list became empty between two samples; the end is unknown

    @property
    def is_drained(self) -> bool:
        return bool(self.head_pops or self.tail_pops or self.emptied)


def watch(queue: QueueView, seconds: float) -> ListActivity:
    """Sample the ends of the list every 20 ms for *seconds*. Over 100 changes between two samples go unseen."""
    activity = ListActivity()
    end = time.monotonic() + seconds
    before = queue.ends(WINDOW)
    while time.monotonic() < end:
        time.sleep(SAMPLE_EVERY_S)
        now = queue.ends(WINDOW)
        _compare(before, now, activity)
        before = now
    return activity


def _compare(
    before: tuple[Sequence[bytes], Sequence[bytes]],
    now: tuple[Sequence[bytes], Sequence[bytes]],
    activity: ListActivity,
) -> None:
    activity.filled += bool(now[0])
    if not before[0] or not now[0]:
        activity.emptied += bool(before[0])
        return
    head, tail = _shift(before[0], now[0]), _shift(before[1][::-1], now[1][::-1])
    activity.head_pushes += max(0, head)
    activity.head_pops += max(0, -head)
    activity.tail_pushes += max(0, tail)
    activity.tail_pops += max(0, -tail)


def _shift(before: Sequence[bytes], now: Sequence[bytes]) -> int:
    """How many messages the end grew by (negative: shrank by); 0 if the samples have nothing in common."""
    for count in range(len(now)):
        rest = min(len(before), len(now) - count)
        if now[count : count + rest] == before[:rest]:
            return count
    for count in range(1, len(before)):
        rest = min(len(now), len(before) - count)
        if before[count : count + rest] == now[:rest]:
            return -count
    return 0
