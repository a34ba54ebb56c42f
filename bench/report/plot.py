"""The plot of a report (SVG): its curves, or else a bar for each median. The same report gives the same bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness.measurement import Comparison, Report
from bench.report.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999", "#222222")  # Okabe and Ito
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, and independent of installed fonts
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(name: str, title: str, report: Report, file: Path) -> None:
    """Write the plot of *report* to *file*."""
    from cycler import cycler  # noqa: PLC0415 - only a run that draws needs these packages
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context(STYLE | {"svg.hashsalt": name, "axes.prop_cycle": cycler(color=COLOURS)}):
        figure = Figure(layout="constrained")
        if report.plot.curves:
            _draw_curves(figure.subplots(), report)
            figure.set_size_inches(8, 4.5)
        else:
            units = sorted({comparison.ours.unit for comparison in report.comparisons})
            rows = 0
            for axis, unit in zip(figure.subplots(len(units), squeeze=False)[:, 0], units, strict=True):
                rows += _draw_bars(axis, [each for each in report.comparisons if each.ours.unit == unit], report)
            figure.set_size_inches(8, 0.5 + 0.28 * rows + 0.7 * len(units))
        figure.suptitle(title, fontsize=11)
        figure.savefig(file, format="svg", metadata={"Date": None})
    # matplotlib ends some lines with a space, which git complains about.
    file.write_text("".join(f"{line.rstrip()}\n" for line in file.read_text("utf-8").splitlines()), "utf-8")


def _tick(value: float, _position: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _draw_curves(axis: "Axes", report: Report) -> None:
    plot = report.plot
    for curve in plot.curves:
        axis.plot(*zip(*curve.points, strict=True), marker="o", markersize=4, label=curve.name)
    axis.set(xlabel=plot.x, ylabel=plot.y)
    for side, is_log in ((axis.xaxis, plot.log_x), (axis.yaxis, plot.log_y)):
        if is_log:
            side.axes.set(**{f"{side.axis_name}scale": "log"})
        side.set_major_formatter(_tick)
    if not plot.log_y:
        axis.set_ylim(bottom=0)  # a truncated axis exaggerates small differences
    axis.grid(alpha=0.3)
    axis.legend(edgecolor="none")  # on white, in case a curve passes behind it


def _draw_bars(axis: "Axes", comparisons: Sequence[Comparison], report: Report) -> int:
    """One bar per contender, case by case from the top; return how many."""
    contenders: list[str] = []
    labels, values, colours = [], [], []
    for comparison in comparisons:
        for figure in (comparison.ours, *comparison.others):
            if figure.contender not in contenders:
                contenders.append(figure.contender)
            labels.append(f"{comparison.case}: {figure.contender}" if comparison.case else figure.contender)
            values.append(figure.median)
            colours.append(COLOURS[contenders.index(figure.contender) % len(COLOURS)])
    bars = axis.barh(range(len(values)), values, color=colours)
    axis.bar_label(bars, [number(value) for value in values], padding=3, fontsize=9)
    axis.set_yticks(range(len(values)), labels)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_xlabel(f"{report.plot.y} ({comparisons[0].ours.unit})" if report.plot.y else comparisons[0].ours.unit)
    if report.plot.log_y:
        axis.set_xscale("log")
    axis.xaxis.set_major_formatter(_tick)
    return len(values)
