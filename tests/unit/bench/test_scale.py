"""docs/explanation/scale.md as it is calculated from a run."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.harness.machine import Machine
from bench.harness.measurement import Comparison, Figure, Goal, Report
from bench.report.runs import Run
from bench.report.scale import BEGIN, END, PAGE, Missing, render, write


def report(cases: Mapping[str, tuple[float, ...]], *goals: Goal) -> Report:
    return Report([Comparison(case, Figure("ours", "", values)) for case, values in cases.items()], goals)


BROADCAST = (
    "TLS, 20 ms per response, 10,000 connections",
    "TLS, 20 ms per response, 10,000 connections, per CPU-second",
)
REPORTS = {
    "drain": report(
        {"200,000 votes into 1 M rows": (300_000.0,), "200,000 votes into 5 M rows": (100_000.0, 110_000.0, 90_000.0)},
        Goal("peak memory of the worker, MB", 120.0, 150, "at most"),
    ),
    "results": report({"one read of the tally at 5,000,000 rows": (0.2,)}),
    "handler": report({"one vote by POST /api/votes": (180.0,), "of which the push": (60.0,)}),
    "broadcast": report({BROADCAST[0]: (14_000.0,), BROADCAST[1]: (30_000.0,)}),
    "sizes": report(
        {
            "a queued vote": (64.0,),
            "a registered subscriber": (80.0,),
            "a row": (250.0,),
            "WAL for a new row": (500.0,),
        }
    ),
    "fanout": report(
        {f"{count} subscribers: oldest figures anywhere": (1.0, 1.5) for count in ("1,000", "100,000", "1,000,000")}
    ),
}


def run(**changes: Report | None) -> Run:
    reports = {name: each for name, each in (REPORTS | changes).items() if each is not None}
    machine = Machine("a processor", 2, 8.0, "Linux", 0.0)
    return Run("2026-11-22T12:00:00+00:00", "abc", "make bench", machine, {}, True, 1.0, reports, {})


def cells(text: str, what: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {what}")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_the_busiest_minute_follows_from_the_voters() -> None:
    assert cells(render(run()), "votes per second in the busiest minute") == ["2", "200", "20,000"]


def test_what_is_beyond_a_quota_is_bold() -> None:
    assert cells(render(run()), "requests per second") == ["4", "367", "**36,667**"]


def test_the_worker_is_rated_at_its_share_of_a_core() -> None:
    # 200 votes/s of 100,000 x 512 / 1769
    assert cells(render(run()), "worker: share of what it drains") == ["0.0%", "0.7%", "69.1%"]


def test_a_shard_is_held_up_by_its_part_of_a_core_or_by_the_answers() -> None:
    assert cells(render(run()), "the same on 0.29 of a core ")[0] == "8,680"
    quick = {case: (100_000.0,) if "CPU" in case else (14_000.0,) for case in BROADCAST}
    assert cells(render(run(broadcast=report(quick))), "the same on 0.29 of a core ")[0] == "14,000"


def test_the_interval_is_the_planners() -> None:
    assert cells(render(run()), "results for each subscriber every") == ["0.25", "25.00", "250.00"]


def test_the_worst_of_the_simulation_is_shown() -> None:
    assert cells(render(run()), "oldest figures on any screen") == ["1.5"] * 3


@pytest.mark.parametrize("name", REPORTS)
def test_a_figure_that_the_run_lacks_is_named(name: str) -> None:
    with pytest.raises(Missing, match=name):
        render(run(**{name: None}))


def test_a_case_that_the_run_lacks_is_named() -> None:
    with pytest.raises(Missing, match="one read of the tally"):
        render(run(results=report({})))


def test_only_the_text_between_the_marks_is_rewritten(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    page.write_text(f"before\n{BEGIN}\nstale figures\n{END}\nafter\n")
    write(run(), page)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "stale figures" not in written
    write(run(), page)
    assert page.read_text() == written


def test_the_page_has_its_marks() -> None:
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
