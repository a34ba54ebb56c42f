"""CloudWatch's alarms on this machine: the metric math of the template's expressions, and how an alarm decides.

It follows the user guide of CloudWatch, https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/, in

- using-metric-math: operators treat missing values as 0, a division by zero drops the data point, and FILL puts its
  value in place of every missing point, the newest included, although that may only be late;
- alarm-evaluation: each minute the newest periods end at that minute, and M of N of them set the alarm off;
- alarms-and-missing-data: more periods than N are fetched (the guide's examples: 2 more, and it promises no number).
  The newest N *existing* points decide; only if there are fewer does TreatMissingData say what the missing ones are.

Times are whole minutes. A series has one place per period, the oldest first; None is a missing point.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
Series = list[float | None]


@dataclass(frozen=True)
class Point:
    """One measurement: the minute that it belongs to, its value, and after how many minutes CloudWatch has it."""

    minute: int
    value: float
    late: int = 0


STATISTICS: Mapping[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "Average": lambda values: sum(values) / len(values),
}
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
}
OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Query:
    """One metric that an alarm fetches."""

    namespace: Any
    name: str
    dimensions: frozenset[str]
    statistic: str
    minutes: int  # of a period

    @classmethod
    def of(cls, metric: Mapping[str, Any], period_s: int, statistic: str) -> "Query":
        dimensions = frozenset(each["Name"] for each in metric.get("Dimensions", []))
        return cls(metric["Namespace"], metric["MetricName"], dimensions, statistic, period_s // 60)

    def series(self, points: Sequence[Point], now: int, periods: int) -> Series:
        """What CloudWatch has of *points* at the minute *now*, for the newest *periods*."""
        oldest = now - periods * self.minutes
        there = [point for point in points if oldest <= point.minute < now - point.late]

        def period(back: int) -> float | None:
            end = now - back * self.minutes
            values = [point.value for point in there if end - self.minutes <= point.minute < end]
            return STATISTICS[self.statistic](values) if values else None

        return [period(back) for back in reversed(range(periods))]


@dataclass(frozen=True)
class Alarm:
    """An alarm of an expanded template."""

    queries: Mapping[str, Query]
    expression: str
    comparison: str
    threshold: float
    needed: int
    periods: int
    missing: str

    @classmethod
    def of(cls, properties: Mapping[str, Any], threshold: float) -> "Alarm":
        """The alarm with these *properties*; its *threshold* may be a reference there."""
        if "Metrics" in properties:
            queries = {one["Id"]: one["MetricStat"] for one in properties["Metrics"] if "MetricStat" in one}
            metrics = {name: Query.of(one["Metric"], one["Period"], one["Stat"]) for name, one in queries.items()}
            (expression,) = [one["Expression"] for one in properties["Metrics"] if one.get("ReturnData", True)]
        else:
            metrics = {"metric": Query.of(properties, properties["Period"], properties["Statistic"])}
            expression = "metric"
        return cls(
            metrics,
            expression,
            properties["ComparisonOperator"],
            threshold,
            properties.get("DatapointsToAlarm", properties["EvaluationPeriods"]),
            properties["EvaluationPeriods"],
            properties["TreatMissingData"],
        )

    @property
    def minutes(self) -> int:
        """The length of its periods, which metric math wants to be the same for all metrics."""
        (minutes,) = {query.minutes for query in self.queries.values()}
        return minutes

    def breaches(self, value: float) -> bool:
        return COMPARISONS[self.comparison](value, self.threshold)

    def states(
        self, points: Mapping[str, Sequence[Point]], until: int, *, more: int = 2, quota: float = 1000.0
    ) -> list[str]:
        """The states from the alarm's creation at minute 0 on, one per minute.

        Args:
            points: by the id of their query.
            until: the minute of the last evaluation.
            more: periods that are fetched beyond the N that decide.
            quota: what SERVICE_QUOTA returns.
        """
        states, state = [], INSUFFICIENT
        for now in range(until + 1):
            fetched = {
                name: query.series(points.get(name, []), now, self.periods + more)
                for name, query in self.queries.items()
            }
            state = self.decide(calculate(self.expression, fetched, quota), state)
            states.append(state)
        return states

    def decide(self, data: Series, state: str) -> str:
        """The state that follows *state*, given the fetched points."""
        assert self.missing in {"breaching", "notBreaching", "ignore"}, "`missing` is not modelled"
        deciding = [value for value in data if value is not None][-self.periods :]
        breaching = sum(map(self.breaches, deciding))
        missing = self.periods - len(deciding)
        if self.missing == "breaching":
            breaching += missing
        elif self.missing == "ignore" and missing and breaching == len(deciding) < self.needed:
            return state
        return ALARM if breaching >= self.needed else OK


def calculate(expression: str, series: Mapping[str, Series], quota: float = 1000.0) -> Series:
    """The series that the *expression* makes of *series*.

    Raises:
        KeyError: it names a metric, a function or an operator that is not known.
    """
    result = _evaluate(ast.parse(expression, mode="eval").body, series, quota)
    assert isinstance(result, list), f"the result of an alarm's expression must be a time series: {expression}"
    return result


def _evaluate(node: ast.expr, series: Mapping[str, Series], quota: float) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return series[name]
        case ast.List(elts=parts):
            return [_evaluate(part, series, quota) for part in parts]
        case ast.BinOp(left=left, op=op, right=right):
            return _operate(OPERATORS[type(op)], _evaluate(left, series, quota), _evaluate(right, series, quota))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, [_evaluate(one, series, quota) for one in arguments], series, quota)
    raise KeyError(ast.unparse(node))


def _operate(operate: Callable[[float, float], float], left: Any, right: Any) -> Any:
    """Point by point. A point that all series lack is missing, one that some lack is 0 there."""
    if not isinstance(left, list) and not isinstance(right, list):
        return operate(left, right)

    def point(at: int) -> float | None:
        present = [side[at] for side in (left, right) if isinstance(side, list) and side[at] is not None]
        operands = [(side[at] or 0.0) if isinstance(side, list) else side for side in (left, right)]
        try:
            return operate(*operands) if present else None
        except ZeroDivisionError:
            return None

    return [point(at) for at in range(len(left if isinstance(left, list) else right))]


def _call(name: str, arguments: list[Any], series: Mapping[str, Series], quota: float) -> Any:
    match name:
        case "METRICS":
            return list(series.values())
        case "FILL":
            filled, value = arguments
            return [value if point is None else point for point in filled]
        case "SERVICE_QUOTA":
            return quota
        case "MAX" | "MIN":
            (many,) = arguments
            choose = {"MAX": max, "MIN": min}[name]
            there = [[value for value in points if value is not None] for points in zip(*many, strict=True)]
            return [choose(values) if values else None for values in there]
    raise KeyError(name)
