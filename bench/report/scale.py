"""`python -m bench.report.scale`: the figures of docs/explanation/scale.md, from the last full run and public quotas.

Everything between the two marks of that page is rewritten. Measurements come from docs/benchmarks/results.json, prices
from votectl's table, and the duration of a broadcast from the product's own planner.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.harness.measurement import Report
from bench.report import runs
from bench.report.runs import Run
from bench.report.table import number
from votectl.cost.estimate import FRAME_MS, FUNCTION_MB, PAGE_MS, VOTE_MS, Event, Stack
from votectl.cost.estimate import event_lines as lines_of
from votectl.cost.prices import Prices
from voting.broadcast.planner import ping_s

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "scale.md"
BEGIN, END = "<!-- calculated by python -m bench.report.scale -->", "<!-- until here -->"

VOTERS = 1000, 100_000, 10_000_000
SUBSCRIBERS = 1000, 100_000, 1_000_000
VOTES_EACH = 1.2
BUSIEST = 0.1 / 60  # a tenth of all votes come in the busiest minute
AWAY_S = 600  # outage of the database, during which votes wait in Redis
CORE_MB = 1769  # memory with which Lambda gives a function one full vCPU

# Published quotas; docs/explanation/scale.md names the pages.
REQUESTS_PER_S, CONCURRENCY = 10_000, 1000
CONNECTS_PER_S = 200  # the default of ConnectionsPerSecond in template.yaml; an account takes 500
LONGEST_CONNECTION_S = 7200
STEADY = 100_000  # voters, enough for every broadcast to have a change to send
REGION = "eu-central-1"
STACK = Stack("arm64", "cache.t4g.small", 2, "db.t4g.medium", 20, multi_az=True, nat=False)


class Missing(Exception):
    """The run lacks a figure that the page needs; the message names it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of the run that the page is based on."""

    drained_per_s: float  # votes, into 5 M rows
    worker_mb: float
    vote_us: float
    push_us: float
    read_ms: float  # of the tally
    posts_per_s: float  # of one shard, at 20 ms per response
    posts_per_core_s: float  # per CPU-second
    queued_bytes: float
    subscriber_bytes: float
    row_bytes: float
    wal_bytes: float
    oldest_s: tuple[float, ...]  # simulated, for each of SUBSCRIBERS

    @classmethod
    def of(cls, run: Run) -> "Measured":
        """Pick the figures out of *run*.

        Raises:
            Missing: there is none of that name.
        """
        reports = run.reports
        size = _picker(reports, "sizes")
        drain, results, handler = (_picker(reports, name) for name in ("drain", "results", "handler"))
        fanout, broadcast = _picker(reports, "fanout"), _picker(reports, "broadcast")
        peak = next(goal.reached for goal in reports["drain"].goals if "memory" in goal.text)
        return cls(
            drained_per_s=drain("into 5 M rows"),
            worker_mb=peak,
            vote_us=handler("one vote by"),
            push_us=handler("of which the push"),
            read_ms=results("one read of the tally"),
            posts_per_s=broadcast("20 ms per response, 10,000 connections"),
            posts_per_core_s=broadcast("20 ms per response, 10,000 connections, per CPU-second"),
            queued_bytes=size("a queued vote"),
            subscriber_bytes=size("a registered subscriber"),
            row_bytes=size("a row"),
            wal_bytes=size("WAL for a new row"),
            oldest_s=tuple(fanout(f"{count:,} subscribers: oldest", max) for count in SUBSCRIBERS),
        )


def _picker(reports: Mapping[str, Report], name: str) -> Callable[..., float]:
    """Return a function that finds our figure by words of its case in the report *name*; the median by default."""
    if name not in reports:
        raise Missing(f"the run has no report {name!r}")

    def pick(words: str, of: Callable[[Sequence[float]], float] | None = None) -> float:
        found = next((each for each in reports[name].comparisons if words in each.case), None)
        if found is None:
            raise Missing(f"the report {name!r} has no case with {words!r}")
        return found.ours.median if of is None else of(found.ours.values)

    return pick


def render(run: Run) -> str:
    """The text between the marks."""
    measured = Measured.of(run)
    parts = [
        f"Measured on {run.machine.cores} cores of {run.machine.processor}, {run.date[:10]}, commit {run.commit[:10]}.",
        "### What was measured",
        _table(["", "", "benchmark"], _measurements(measured)),
        "### Voters",
        _table(["", *(f"{count:,}" for count in VOTERS)], _voters(measured)),
        "### Subscribers",
        _table(["", *(f"{count:,}" for count in SUBSCRIBERS)], _subscribers(measured)),
    ]
    return "\n\n".join(parts)


def _measurements(m: Measured) -> Iterator[Sequence[str]]:
    share = FUNCTION_MB / CORE_MB
    yield "votes per second that one worker drains into 5 M rows", number(m.drained_per_s), "drain"
    yield f"the same on the {share:.2f} of a core that {FUNCTION_MB} MB have", number(m.drained_per_s * share), ""
    yield "memory of the worker at its peak, MB", number(m.worker_mb), "drain"
    yield "one warm vote, µs (of which the push to Redis)", f"{number(m.vote_us)} ({number(m.push_us)})", "handler"
    yield "one read of the results at 5 M rows, ms", number(m.read_ms), "results"
    yield "posts per second of one shard, TLS, 20 ms per response", number(m.posts_per_s), "broadcast"
    held_up = min(m.posts_per_s, m.posts_per_core_s * share)
    yield f"the same on {share:.2f} of a core", number(held_up), ""
    yield "a queued vote in Redis, bytes", number(m.queued_bytes), "sizes"
    yield "a subscriber in the registry, bytes", number(m.subscriber_bytes), "sizes"
    yield "a row with its indexes; its WAL, bytes", f"{number(m.row_bytes)}; {number(m.wal_bytes)}", "sizes"


def _voters(m: Measured) -> Iterator[Sequence[str]]:
    peaks = [voters * VOTES_EACH * BUSIEST for voters in VOTERS]
    capacity = m.drained_per_s * FUNCTION_MB / CORE_MB
    yield _row("votes per second in the busiest minute", peaks, lambda peak: f"{peak:,.0f}")
    # Each voter loads one page and casts VOTES_EACH votes.
    requests = [peak * (1 + 1 / VOTES_EACH) for peak in peaks]
    yield _row(f"requests per second, of {REQUESTS_PER_S:,}", requests, _against(REQUESTS_PER_S))
    busy = [peak * (VOTE_MS + PAGE_MS / VOTES_EACH) / 1000 for peak in peaks]
    yield _row(f"vote: environments at once, of {CONCURRENCY:,}", busy, lambda each: f"{math.ceil(each):,}")
    yield _row("Redis: commands per second", peaks, lambda peak: f"{math.ceil(peak):,}")
    waiting = [peak * AWAY_S * m.queued_bytes / 1e6 for peak in peaks]
    yield _row(f"Redis: MB after {AWAY_S // 60} minutes without Postgres", waiting, lambda each: f"{each:,.1f}")
    yield _row("worker: share of what it drains", [peak / capacity for peak in peaks], lambda each: f"{each:.1%}")
    yield _row("Postgres: rows, MB", [v * m.row_bytes / 1e6 for v in VOTERS], lambda each: f"{each:,.0f}")
    wal = [peak * m.wal_bytes / 1e6 for peak in peaks]
    yield _row("Postgres: WAL, MB per second at most", wal, lambda each: f"{each:.2g}")
    yield _row("the votes of the event, USD", [_usd(voters, 0) for voters in VOTERS], lambda each: f"{each:,.2f}")


def _subscribers(m: Measured) -> Iterator[Sequence[str]]:
    events = [_event(0, count) for count in SUBSCRIBERS]
    yield _row("results for each subscriber every … s", events, lambda event: f"{event.interval_s:,.2f}")
    yield _row("oldest figures on any screen, s (simulated)", m.oldest_s, lambda each: f"{each:,.1f}")
    yield _row("shards at once", events, lambda event: str(len(event.turn.shards)))
    yield _row("ws_broadcast: invocations per minute", events, lambda event: f"{_invokes_a_minute(event):,.0f}")
    yield _row(
        f"to connect, s, at {CONNECTS_PER_S} per second", SUBSCRIBERS, lambda count: f"{count / CONNECTS_PER_S:,.0f}"
    )
    again = [count / LONGEST_CONNECTION_S for count in SUBSCRIBERS]
    yield _row("reconnects per second, after 2 h each", again, lambda each: f"{each:,.1f}")
    # A ping is a frame in and a post out. There are fewer while result frames arrive.
    pings = [2 * count / ping_s(count, _event(0, count).budget) for count in SUBSCRIBERS]
    yield _row(f"pings and pongs per second if no frame comes, of {REQUESTS_PER_S:,}", pings, _against(REQUESTS_PER_S))
    answering = [each / 2 * FRAME_MS / 1000 for each in pings]
    yield _row("ws_connect: environments at once, for pings", answering, lambda each: f"{math.ceil(each):,}")
    memory = [count * m.subscriber_bytes / 1e6 for count in SUBSCRIBERS]
    yield _row("Redis: registry, MB", memory, lambda each: f"{each:,.1f}")
    yield _row("an hour of steady change, USD", [_usd(0, count) for count in SUBSCRIBERS], lambda each: f"{each:,.2f}")


def _against(quota: float) -> Callable[[float], str]:
    return lambda each: f"{each:,.0f}" if each <= quota else f"**{each:,.0f}**"


def _event(voters: int, subscribers: int) -> Event:
    return Event(voters, VOTES_EACH, subscribers, 1.0, 50, 4000)


def _invokes_a_minute(event: Event) -> float:
    posts = sum(shard.subscribers for shard in event.turn.shards) / len(event.turn.shards)
    return 60 / event.interval_s * event.subscribers / posts


def _usd(voters: int, subscribers: int) -> float:
    """What an hour costs for them. With subscribers alone, the steady votes behind the broadcasts are not included."""
    prices = Prices.of(REGION)
    total = math.fsum(line.usd for line in lines_of(_event(voters or STEADY, subscribers), STACK, prices))
    alone = 0.0 if voters else math.fsum(line.usd for line in lines_of(_event(STEADY, 0), STACK, prices))
    return total - alone


def _row(what: str, values: Sequence[T], show: Callable[[T], str]) -> Sequence[str]:
    return [what, *(show(value) for value in values)]


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(run: Run, page: Path = PAGE) -> None:
    """Put the figures of *run* between the marks of *page*.

    Raises:
        Missing: the run lacks a figure.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin
    assert end
    page.write_text(f"{before}{BEGIN}\n\n{render(run)}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Update the page from the last full run."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else runs.FILE
    run = runs.last_full(path)
    if run is None:
        print(f"no full run is recorded in {path}: make bench", file=sys.stderr)
        return 1
    try:
        write(run)
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{PAGE.relative_to(ROOT)} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
