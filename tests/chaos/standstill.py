"""Whether the count stands still, by the suite's own measure, and whether people are told so in time.

The measure is the oldest message that waits: where it stays the same, or Redis does not answer, nothing is counted. It
knows nothing of what the product notes of its progress.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

STALLED_AFTER_S = 15.0
TOLD_WITHIN_S = 30.0


class Said(StrEnum):
    """What someone who watches would conclude."""

    STALLED = "stalled"
    COUNTING = "counting"
    UNCLEAR = "unclear"  # that something is wrong, and the count is not


class Away:
    """In place of the oldest message, where Redis does not answer."""


@dataclass(slots=True)
class Stall:
    """A count that stood still for longer than STALLED_AFTER_S."""

    stood_s: float
    told_after_s: dict[str, float]  # who said so, and how long after the last batch

    def line(self) -> str:
        told = ", ".join(f"{who} after {after_s:.0f} s" for who, after_s in self.told_after_s.items())
        return f"nothing was counted for {self.stood_s:.0f} s; told by {told or 'none'}"


@dataclass
class Standstill:
    """Follows the count, and complains where someone says too late that it stands still, or that it is over."""

    counted_at: float  # when a batch was last seen to be counted, or nothing to wait; at first, when watching began
    within_s: float = TOLD_WITHIN_S
    complaints: list[str] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)  # that are over
    _oldest: bytes | Away | None = None
    _stands_s: float = -math.inf  # for how long it stood still when people were last asked
    _moving_since: float = -math.inf  # when it last stood still for so long that people are told
    _healed_at: float | None = None
    _said: Mapping[str, Said] = field(default_factory=dict)
    _told_after_s: dict[str, float] = field(default_factory=dict)  # of the standstill that lasts

    def struck(self) -> None:
        """From now on a fault may last, so nothing needs to be taken back."""
        self._healed_at = None

    def healed(self, at: float) -> None:
        """No fault has lasted since *at*, and a run of the worker was set off."""
        self._healed_at = at

    def see(self, asked_at: float, said: Mapping[str, Said], looked_at: float, oldest: bytes | Away | None) -> None:
        """Take in what was *said* from *asked_at* on, and the *oldest* message, looked at after that."""
        self._said = said
        if oldest is None or (oldest != self._oldest and not isinstance(oldest, Away)):
            self._moved(looked_at)
            self._oldest = oldest
        elif looked_at - self.counted_at > STALLED_AFTER_S:
            self._moving_since = looked_at
        stands_s = self._stands_s = asked_at - self.counted_at
        for who, what in said.items():
            if what is Said.STALLED and stands_s > 0:
                self._told_after_s.setdefault(who, stands_s)
            if what is not Said.STALLED and stands_s > STALLED_AFTER_S + self.within_s:
                self._complain(f"{who} did not say within {self.within_s:.0f} s that nothing is counted")
            if what is not Said.COUNTING and self._well_for_s(asked_at) > self.within_s:
                self._complain(f"{who} did not take back within {self.within_s:.0f} s that nothing is counted")

    def is_told(self) -> bool:
        """Whether everyone says of a count that stands still that nothing is counted."""
        return self._stands_s > STALLED_AFTER_S and all(what is Said.STALLED for what in self._said.values())

    def is_taken_back(self) -> bool:
        """Whether everyone says now that votes are counted."""
        return bool(self._said) and all(what is Said.COUNTING for what in self._said.values())

    def _moved(self, at: float) -> None:
        stood_s = at - self.counted_at
        if stood_s > STALLED_AFTER_S:
            self._moving_since = at
            self.stalls.append(Stall(stood_s, self._told_after_s))
        self.counted_at = at
        self._told_after_s = {}

    def _well_for_s(self, at: float) -> float:
        return -math.inf if self._healed_at is None else at - max(self._healed_at, self._moving_since)

    def _complain(self, complaint: str) -> None:
        if complaint not in self.complaints:
            self.complaints.append(complaint)
