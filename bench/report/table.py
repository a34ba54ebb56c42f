"""A report as tables: aligned Markdown, which reads well in a terminal too."""

from collections.abc import Sequence

from bench.harness.measurement import Comparison, Figure, Goal, Report

COLUMNS = ("case", "contender", "median", "spread", "ours ÷ theirs")


def render_comparisons(comparisons: Sequence[Comparison]) -> str:
    """A row per contender: median, spread, and the ratio of ours to it."""
    rows = [row for comparison in comparisons for row in _rows(comparison)]
    return _table(COLUMNS, rows, numbers=(2, 3, 4))


def render_goals(goals: Sequence[Goal]) -> str:
    """A row per goal: the value reached, and whether it meets the target."""
    rows = [
        (goal.text, number(goal.reached), f"{goal.sense} {number(goal.target)}", "met" if goal.met else "**MISSED**")
        for goal in goals
    ]
    return _table(("goal", "reached", "wanted", ""), rows, numbers=(1,))


def render_report(report: Report, *, judged: bool) -> str:
    """The report without its plot; goals only if they are to be judged, which a smoke run is not."""
    parts = []
    if report.comparisons:
        parts.append(render_comparisons(report.comparisons))
    if report.goals and judged:
        parts.append(render_goals(report.goals))
    parts += ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(parts)


def number(value: float) -> str:
    """Three significant digits with separators: 0.0123, 4.56, 78.9, 12,300."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 0.001 else f"{value:.2g}"


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    ours = ("", *_cells(comparison.ours), "")
    theirs = [("", *_cells(other), _ratio(comparison.ratio(other.contender))) for other in comparison.others]
    return [(comparison.case, *ours[1:]), *theirs]


def _ratio(ratio: float) -> str:
    return number(ratio) if ratio >= 0.01 else f"1/{number(1 / ratio)}"


def _cells(figure: Figure) -> tuple[str, str, str]:
    least, greatest = figure.spread
    spread = f"{number(least)} to {number(greatest)}" if len(figure.values) > 1 else "once"
    return figure.contender, f"{number(figure.median)} {figure.unit}", spread


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * (width - 1) + (":" if column in numbers else "-") for column, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])
