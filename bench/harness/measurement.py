"""The results of a benchmark: repetitions, comparisons, and goals."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one contender, with a value for each repetition in the order of the runs."""

    contender: str  # "ours", "old worker", "COPY"
    unit: str  # "votes/s", "ms", "MB"
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the greatest value."""
        return min(self.values), max(self.values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contenders under one condition, interleaved: repetition i of each ran next to repetition i of the others."""

    case: str  # "20,000 votes into 1 M rows"
    ours: Figure
    others: tuple[Figure, ...] = ()

    def ratio(self, contender: str) -> float:
        """The median, over the repetitions, of ours divided by theirs; infinite if theirs is mostly zero."""
        (other,) = (figure for figure in self.others if figure.contender == contender)
        pairs = zip(self.ours.values, other.values, strict=True)
        return statistics.median(ours / theirs if theirs else math.inf for ours, theirs in pairs)


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure or ratio with its target."""

    text: str  # "at least 45 times the old worker"
    reached: float
    target: float
    sense: Literal["at least", "at most"]

    @property
    def met(self) -> bool:
        return self.reached >= self.target if self.sense == "at least" else self.reached <= self.target


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot: points (x, y)."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """The plot of a benchmark: its curves, or else a bar for each median."""

    x: str = ""
    y: str = ""
    curves: tuple[Curve, ...] = ()
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one benchmark."""

    comparisons: Sequence[Comparison]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()  # what a reader must know to judge the figures; Markdown
    plot: Plot = field(default_factory=Plot)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark, under the name that ONLY= takes."""

    name: str
    question: str  # "How fast do votes get from the list into the table?"
    measure: Callable[["Scale"], Report]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: everything, or a small sample that shows that the benchmarks work."""

    smoke: bool = False

    def repetitions(self, full: int) -> int:
        """The number of repetitions: *full*, or one in a smoke run."""
        return 1 if self.smoke else full


def in_turns(repetitions: int, *contenders: Callable[[], float]) -> Iterator[tuple[float, ...]]:
    """Run each contender once per repetition, in alternating order; yield the values in the order given."""
    for repetition in range(repetitions):
        order = range(len(contenders)) if repetition % 2 == 0 else reversed(range(len(contenders)))
        values = {number: contenders[number]() for number in order}
        yield tuple(values[number] for number in range(len(contenders)))
