import json
from pathlib import Path

import pytest

from bench.benchmarks.drain import BATCH, Drained, _blocks
from bench.harness import registry
from bench.harness.machine import Machine
from bench.harness.measurement import Comparison, Curve, Figure, Goal, Plot, Report, Scale, in_turns
from bench.harness.sample_votes import REVOTES, cast
from bench.report import page, runs
from bench.report.runs import Run
from bench.report.table import number, render_comparisons, render_goals, render_report
from voting.vote import Vote

OURS = Figure("ours", "votes/s", (100.0, 300.0, 200.0))
THEIRS = Figure("COPY", "votes/s", (200.0, 400.0, 1000.0))
REPORT = Report(
    comparisons=[Comparison("20,000 votes", OURS, (THEIRS,))],
    goals=[Goal("of COPY", 0.5, 0.65, "at least"), Goal("peak memory, MB", 98.5, 150, "at most")],
    notes=["in Python"],
    plot=Plot("votes", "votes/s", (Curve("ours", ((1.0, 2.0), (3.0, 4.0))),), log_x=True),
)
MACHINE = Machine("a processor", 2, 4.0, "Linux 6.1, x86_64", 0.5)


def run(*, is_full: bool = True, commit: str = "abc1234") -> Run:
    return Run(
        date="2026-01-02T03:04:05+00:00",
        commit=commit,
        command="make bench",
        machine=MACHINE,
        versions={"Python": "3.13.1"},
        is_full=is_full,
        took_s=600.0,
        reports={"drain": REPORT},
        failures={"local": "RuntimeError: no"},
    )


def test_a_figure_is_its_median_and_its_spread() -> None:
    assert OURS.median == 200
    assert OURS.spread == (100, 300)


def test_a_ratio_is_the_median_of_the_pairs_not_of_the_medians() -> None:
    assert Comparison("", OURS, (THEIRS,)).ratio("COPY") == 0.5  # of 0.5, 0.75 and 0.2; the medians make 0.5 as well
    assert Comparison("", OURS, (Figure("COPY", "votes/s", (1000.0, 400.0, 200.0)),)).ratio("COPY") == 0.75


def test_a_contender_that_did_nothing_is_beaten_by_any_factor() -> None:
    assert Comparison("", OURS, (Figure("wrk", "requests/s", (0.0, 0.0, 1.0)),)).ratio("wrk") == float("inf")
    assert number(float("inf")) == "inf"


def test_figures_of_unequal_length_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Comparison("", OURS, (Figure("COPY", "votes/s", (1.0,)),)).ratio("COPY")


@pytest.mark.parametrize(
    ("reached", "sense", "met"),
    [(44.9, "at least", False), (45.0, "at least", True), (45.0, "at most", True), (45.1, "at most", False)],
)
def test_a_goal_is_met_at_its_target(reached: float, sense: str, met: bool) -> None:
    assert Goal("", reached, 45.0, sense).met is met


def test_contenders_run_in_turns_and_swap_their_order() -> None:
    ran: list[str] = []

    def contender(name: str, value: float) -> float:
        ran.append(name)
        return value

    turns = in_turns(3, lambda: contender("ours", 1.0), lambda: contender("theirs", 2.0))
    assert list(turns) == [(1.0, 2.0)] * 3
    assert ran == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_smoke_repeats_nothing() -> None:
    assert (Scale().repetitions(5), Scale(smoke=True).repetitions(5)) == (5, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.000123, "0.00012"),
        (0.0421, "0.0421"),
        (4.5, "4.50"),
        (99.96, "100"),
        (45.0, "45.0"),
        (150, "150"),
        (123_456, "123,000"),
    ],
)
def test_numbers_have_three_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_a_table_is_aligned_and_shows_median_spread_and_ratio() -> None:
    lines = render_comparisons(REPORT.comparisons).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")] == [
        "",
        "20,000 votes",
        "ours",
        "200 votes/s",
        "100 to 300",
        "",
        "",
    ]
    assert [cell.strip() for cell in lines[3].split("|")] == [
        "",
        "",
        "COPY",
        "400 votes/s",
        "200 to 1,000",
        "0.500",
        "",
    ]


def test_a_tiny_ratio_is_shown_as_a_fraction() -> None:
    row = render_comparisons([Comparison("", Figure("ours", "ms", (0.05,)), (Figure("GROUP BY", "ms", (200.0,)),))])
    assert "1/4,000" in row
    assert "once" in row


def test_a_missed_goal_stands_out() -> None:
    _, _, missed, met = render_goals(REPORT.goals).splitlines()
    assert "**MISSED**" in missed
    assert "| met" in met


def test_a_smoke_run_is_not_judged() -> None:
    assert "MISSED" in render_report(REPORT, judged=True)
    assert "MISSED" not in render_report(REPORT, judged=False)


def test_the_last_full_run_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert runs.last_full(file) is None
    runs.append(file, run(commit="first"))
    runs.append(file, run(commit="second"))
    runs.append(file, run(commit="third", is_full=False))
    found = runs.last_full(file)
    assert found is not None
    assert found.commit == "second"
    assert found.machine == MACHINE
    (comparison,) = found.reports["drain"].comparisons
    assert comparison == REPORT.comparisons[0]
    assert found.reports["drain"].plot == REPORT.plot
    assert list(found.reports["drain"].goals) == REPORT.goals
    assert [each["commit"] for each in json.loads(file.read_text())] == ["first", "second", "third"]
    assert len(file.read_text().splitlines()) == 5  # a line per run


def test_the_page_shows_every_row_and_what_failed(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "drain.md").touch()
    text = page.render(run(), {"drain": "How fast?", "results": "How dear?", "local": "How many?"}, tmp_path)
    assert "## How fast?" in text
    assert "[drain.md](drain.md)" in text
    assert "../images/bench-drain.svg" in text
    assert "commit abc1234, `make bench` in 10 minutes" in text
    assert "`ONLY=local` failed: `RuntimeError: no`" in text
    assert "How dear?" not in text  # it was not there yet when this run was made


@pytest.mark.parametrize("name", registry.names())
def test_a_benchmark_goes_by_the_name_of_its_module(name: str) -> None:
    assert registry.load(name).name == name


def test_votes_are_the_same_every_time_and_a_fifth_are_by_known_voters() -> None:
    votes = list(cast(20_000))
    assert votes == list(cast(20_000))
    assert 1 - len({vote.voter_id for vote in votes}) / len(votes) == pytest.approx(REVOTES, abs=0.02)


def test_copy_is_handed_each_voter_once_with_the_last_choice() -> None:
    votes = [Vote("a", "y"), Vote("a", "x"), *(Vote("a", f"z{number}") for number in range(BATCH - 2)), Vote("b", "x")]
    first, second = _blocks(votes)
    assert first.startswith(b"y\ta\nx\tb\nz0\ta\n")
    assert second == b""
    assert next(_blocks(votes, order=sorted)).startswith(b"x\tb\ny\ta\nz0\ta\n")


def test_the_rate_of_a_drain_is_taken_at_a_commit() -> None:
    drained = Drained([(20_000, 0.5), (40_000, 0.8), (50_000, 1.0)], 1.0, 10.0, 60.0, 100.0)
    assert drained.rate(30_000) == 50_000
    assert drained.rate(90_000) == 50_000
    assert drained.seconds == 1.0
