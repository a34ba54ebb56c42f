"""The results as clients see them: version, and votes and percentages by option."""

import json
from typing import NamedTuple

from voting.question import Question
from voting.tally import Tally

PING_S = 20  # default, until the subscribers have been counted


class Option(NamedTuple):
    """One option. `percent` has one decimal; all options sum to 100.0, or to 0.0 without votes."""

    id: str
    label: str
    votes: int
    percent: float


class Results(NamedTuple):
    """What clients see. Votes for choices that are not options are not counted."""

    version: int
    options: tuple[Option, ...]
    question: str = ""
    stale_seconds: int | None = None  # age, if the database is away or votes wait uncounted
    ping_s: int = PING_S  # how often a subscriber should ping

    @classmethod
    def of(cls, tally: Tally, question: Question, stale_seconds: int | None = None, ping_s: int = PING_S) -> "Results":
        votes = [tally.counts.get(choice, 0) for choice in question.labels]
        options = zip(question.labels.items(), votes, percentages(votes), strict=True)
        return cls(
            tally.version,
            tuple(Option(choice, label, count, percent) for (choice, label), count, percent in options),
            question.text,
            stale_seconds,
            ping_s,
        )

    @property
    def total(self) -> int:
        return sum(option.votes for option in self.options)

    def document(self) -> dict[str, object]:
        """The body of `GET /api/results`."""
        document: dict[str, object] = {"version": self.version, "total": self.total}
        if self.question:  # without one, the document is that of earlier releases
            document["question"] = self.question
        document["options"] = [
            {"id": option.id, "label": option.label, "votes": option.votes, "percent": option.percent}
            for option in self.options
        ]
        if self.stale_seconds is not None:
            document["stale_seconds"] = self.stale_seconds
        return document

    def frame(self) -> bytes:
        """The WebSocket frame of type `results`."""
        return json.dumps({"type": "results", **self.document(), "ping_s": self.ping_s}, separators=(",", ":")).encode()


def percentages(counts: list[int]) -> list[float]:
    """Percentages with one decimal that sum to exactly 100.0, by the largest remainder (Hamilton's method).

    Equal remainders go to the larger count, then to the earlier option. All zeros give zeros.
    """
    total = sum(counts)
    if not total:
        return [0.0] * len(counts)
    tenths = [count * 1000 // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda i: (-(counts[i] * 1000 % total), -counts[i], i))
    for i in by_remainder[: 1000 - sum(tenths)]:
        tenths[i] += 1
    return [tenth / 10 for tenth in tenths]
