"""The sums of all rounds, as text and as a table in a document."""

import os
import platform
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.round import BIG, Report

ENOUGH_ROUNDS, LEAST_STRIKES = 200, 10  # in a full run, of every kind
COLUMNS = ("accepted", "applied", "parked", "lost", "misordered", "ghosts", "maybes", "open")


@dataclass
class Sums:
    """What all rounds came to."""

    faults: Counter[str]  # every kind that may strike, with how often it took effect
    totals: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    rounds: int = 0
    big_rounds: int = 0
    votes: int = 0
    unseen: int = 0
    seconds: float = 0.0

    def add(self, report: Report) -> None:
        self.rounds += 1
        self.big_rounds += report.votes >= BIG
        self.votes += report.votes
        self.seconds += report.seconds
        self.faults.update(report.faults)
        self.unseen += len(report.unseen)
        self.totals.update({column: getattr(report.verdict, column) for column in COLUMNS})
        self.complaints += [f"round {report.number}: {complaint}" for complaint in report.verdict.complaints]

    @property
    def rare(self) -> list[str]:
        """Kinds of fault that a full run should have struck more often."""
        if self.rounds < ENOUGH_ROUNDS:
            return []
        return [name for name, count in sorted(self.faults.items()) if count < LEAST_STRIKES]

    @property
    def is_good(self) -> bool:
        broken = self.totals["lost"] + self.totals["misordered"] + self.totals["ghosts"]
        return not (broken or self.complaints or self.rare)

    def text(self) -> str:
        lines = [
            (
                f"{self.rounds} rounds ({self.big_rounds} big), {self.votes} votes, {self.faults.total()} faults "
                f"({self.unseen} more without effect), {self.seconds / 60:.1f} min"
            ),
            ", ".join(f"{column} {self.totals[column]}" for column in COLUMNS),
            *(f"  {name:28} {count}" for name, count in sorted(self.faults.items())),
            *self.complaints,
            *(f"too rare: {name}" for name in self.rare),
        ]
        return "\n".join(lines)

    def as_fields(self) -> dict[str, object]:
        return {"totals": dict(self.totals), "complaints": self.complaints, "faults": dict(self.faults)}

    def write_into(self, document: Path, seed: int) -> None:
        """Replace what stands between the marks `<!-- chaos -->` and `<!-- /chaos -->`."""
        rows = [
            (
                f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
                f"CPython {platform.python_version()}, seed {seed}."
            ),
            "",
            "| | |",
            "|---|---:|",
            f"| rounds | {self.rounds} |",
            f"| of them with 50,000 votes | {self.big_rounds} |",
            f"| votes sent | {self.votes:,} |",
            *(f"| {column} | {self.totals[column]:,} |" for column in COLUMNS),
            f"| faults that took effect | {self.faults.total():,} |",
            f"| faults without effect, not counted | {self.unseen} |",
            f"| minutes | {self.seconds / 60:.0f} |",
            "",
            "| fault | times |",
            "|---|---:|",
            *(f"| {name} | {count} |" for name, count in sorted(self.faults.items())),
        ]
        write_between(document, "chaos", "\n".join(rows))


def write_between(document: Path, name: str, text: str) -> None:
    """Put *text* between the two marks of *name*.

    Raises:
        ValueError: the document does not have them.
    """
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    old = document.read_text(encoding="utf-8")
    new, count = marks.subn(lambda found: f"{found[1]}{text}\n{found[2]}", old)
    if count != 1:
        raise ValueError(f"{document} has no place marked {name!r}")
    document.write_text(new, encoding="utf-8")
