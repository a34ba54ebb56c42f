"""What a benchmark brings home: repetitions, set side by side, and the goals they are held against."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one contender, a value for each repetition, in the order in which they ran."""

    contender: str  # "ours", "old worker", "COPY"
    unit: str  # "votes/s", "ms", "MB"
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest value."""
        return min(self.values), max(self.values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contenders under one condition, measured in turns: repetition i of each ran beside repetition i of the others."""

    case: str  # "20,000 votes into 1 M rows"
    ours: Figure
    others: tuple[Figure, ...] = ()

    def ratio(self, contender: str) -> float:
        """The median, over the repetitions, of ours divided by theirs; infinite where theirs is mostly zero."""
        (other,) = (figure for figure in self.others if figure.contender == contender)
        pairs = zip(self.ours.values, other.values, strict=True)
        return statistics.median(ours / theirs if theirs else math.inf for ours, theirs in pairs)


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure or ratio that was aimed at."""

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
    """A picture of a benchmark. Bars are drawn where there are no curves: the medians of all comparisons."""

    x: str = ""
    y: str = ""
    curves: tuple[Curve, ...] = ()
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """All that one benchmark found."""

    comparisons: Sequence[Comparison]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()  # what a reader must know to judge the figures; Markdown
    plot: Plot = field(default_factory=Plot)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One row of the programme, by the name that ONLY= takes."""

    name: str
    question: str  # "How fast do votes get from the list into the table?"
    measure: Callable[["Scale"], Report]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: everything, or so little that all of it passes within a minute."""

    smoke: bool = False

    def repetitions(self, full: int) -> int:
        """*full* of them, or one."""
        return 1 if self.smoke else full


def in_turns(repetitions: int, *contenders: Callable[[], float]) -> Iterator[tuple[float, ...]]:
    """Run each contender once per repetition and swap their order each time; yield the values in the order given."""
    for repetition in range(repetitions):
        order = range(len(contenders)) if repetition % 2 == 0 else reversed(range(len(contenders)))
        values = {number: contenders[number]() for number in order}
        yield tuple(values[number] for number in range(len(contenders)))
