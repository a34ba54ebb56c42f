"""From the moment a vote is due at POST /api/votes to the results frame that contains it, through the local stack."""

import math
import socket
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from redis import Redis

from bench.harness import stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Curve, Figure, Goal, Plot, Report, Scale
from bench.load.subscribers import Audience, Step
from bench.load.voters import Cast, vote
from bench.rivals import container_app
from tests.stack import Stack, running
from voting.database.vote_table import VoteTable
from voting.question import Question
from voting.queue.vote_queue import VoteQueue
from voting.results.results import Results
from voting.results.snapshot import Snapshots
from voting.vote import Vote

REPETITIONS = 3
QUESTION = Question.of("", ["Cats", "Dogs"])
SHORTEST = {"BROADCAST_INTERVAL_MS": "50"}
NOTES = (
    (
        "Votes come at random moments, whether or not earlier ones were answered, and the time counts from the moment "
        "when they were due. Voters, subscribers and the whole stack share the machine."
    ),
    (
        "A vote that is refused because every execution environment is busy is sent again after 0.1 s, and its time "
        "runs on. That happens when the load exceeds the machine."
    ),
    (
        "A vote counts as shown once the total reaches the number of votes sent before this one was answered: the list "
        "is a queue, so the vote must be among those. Usually it was shown earlier."
    ),
    (
        "The old design takes ten votes per second. At 100 and 500 its backlog grows without bound: most votes were "
        "not shown by the end of the window and count as shown then, so its figures are lower bounds that grow with "
        "the window (5 s and 3 s). The emulation is kind to it: no web service in front of its list, and all screens "
        "refreshed at once."
    ),
    (
        "The chain alone is the path of a vote without functions, gateway and waiting: push, claim, commit, tally, "
        "snapshot and a frame over a socket, one after the other in one process."
    ),
    "BROADCAST_INTERVAL_MS is 50; by default it is 250, and a vote waits for its broadcast five times as long.",
    "With 1,000 subscribers, the budget of 4,000 messages per second stretches the interval to 250 ms.",
)


@dataclass(frozen=True, slots=True)
class Load:
    """Votes per second, for how long, and the number of subscribers."""

    rate: int
    seconds: float
    subscribers: int

    @property
    def votes(self) -> int:
        return max(1, round(self.rate * self.seconds))

    @property
    def name(self) -> str:
        return f"{self.rate} vote{'s' if self.rate > 1 else ''}/s, {_eyes(self.subscribers)}"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of latencies, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Quantiles":
        ordered = sorted(seconds)
        p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] * 1000 for share in (0.5, 0.99))
        return cls(p50, p99)


@dataclass(slots=True)
class Latencies:
    """The latencies of each repetition under one load."""

    one: list[Quantiles]
    last: list[Quantiles]
    old: list[Quantiles]


def shown(casts: Sequence[Cast], before: int, steps: Sequence[Step]) -> tuple[list[float], list[float]]:
    """Seconds that each vote took to one subscriber and to the last; *before* votes were there at the start.

    A vote is behind no more votes in the list than were sent before it was answered.
    """
    sent = sorted(cast.sent for cast in casts)
    totals = [step.total for step in steps]
    seen = [steps[bisect_left(totals, before + bisect_left(sent, cast.answered))] for cast in casts]
    one = [step.one_at - cast.due for step, cast in zip(seen, casts, strict=True)]
    last = [step.last_at - cast.due for step, cast in zip(seen, casts, strict=True)]
    return one, last


def measure(scale: Scale) -> Report:
    """Vote at each rate for each audience, in turns with the old design; measure the chain once per repetition."""
    seconds = {100: 0.4} if scale.smoke else {1: 6.0, 100: 5.0, 500: 3.0}
    audiences = (1, 20) if scale.smoke else (1, 1000)
    found = {Load(rate, s, eyes): Latencies([], [], []) for eyes in audiences for rate, s in seconds.items()}
    chains: list[float] = []
    repetitions = scale.repetitions(REPETITIONS)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        running(stores.initialize(Path(folder) / "state"), "--no-reload", shell=SHORTEST) as stack,
        stores.running() as others,
    ):
        _warm(stack)
        for repetition in range(repetitions):
            turns = [lambda at=repetition: _ours(stack, found, at), lambda at=repetition: _old(others, found, at)]
            for turn in turns if repetition % 2 == 0 else reversed(turns):
                turn()
            chains.append(_chain_ms(others, 20 if scale.smoke else 200))
            say(f"{repetition + 1} of {repetitions}: the chain alone {chains[-1]:.1f} ms")
    return Report(_comparisons(found, chains), _goals(found), NOTES, _plot(found, audiences))


def _warm(stack: Stack) -> None:
    """Return once the worker counts: its first run begins a moment after the APIs listen."""
    with Audience(stack.websocket, 1) as audience:
        vote(stack.http, 20, 0.4, seed=0)
        audience.until(audience.opening.total + 20)


def _ours(stack: Stack, found: dict[Load, Latencies], repetition: int) -> None:
    for eyes in dict.fromkeys(load.subscribers for load in found):
        with Audience(stack.websocket, eyes) as audience:
            before = audience.opening.total
            for load in (load for load in found if load.subscribers == eyes):
                casts = vote(stack.http, load.votes, load.seconds, seed=repetition)
                one, last = shown(casts, before, audience.until(before + load.votes))
                before += load.votes
                found[load].one.append(Quantiles.of(one))
                found[load].last.append(Quantiles.of(last))
                refused = sum(cast.refused for cast in casts)
                say(f"{load.name}: {found[load].one[-1]}, to the last {found[load].last[-1]}, {refused} refused")


def _old(others: stores.Stores, found: dict[Load, Latencies], repetition: int) -> None:
    """Run once per rate, since all screens of the emulation change at once."""
    for rate, seconds in dict.fromkeys((load.rate, load.seconds) for load in found):
        load = Load(rate, seconds, 1)
        old = Quantiles.of(container_app.latencies_s(others, load.votes, seconds, seed=repetition))
        for same in (same for same in found if same.rate == rate):
            found[same].old.append(old)
        say(f"the old design at {rate} votes/s: {old}")


def _chain_ms(others: stores.Stores, votes: int) -> float:
    """Median milliseconds from the push of one vote to its frame at the other end of a socket."""
    took: list[float] = []
    with (
        Redis.from_url(others.redis_url, socket_timeout=5) as redis,
        psycopg.connect(others.postgres_url, autocommit=True) as database,
    ):
        redis.flushdb()
        database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        queue, table, snapshots = VoteQueue(redis), VoteTable(database), Snapshots(redis)
        table.install()
        token = table.take_fence()
        server, client = socket.socketpair()
        with server, client:
            acknowledge = 0
            for number in range(votes):
                began = time.perf_counter()
                queue.push(Vote("a", f"voter{number}"))
                messages = queue.claim(token, most=100, most_bytes=10_000, acknowledge=acknowledge)
                acknowledge = len(messages)
                table.record([Vote("a", f"voter{number}")], token)
                tally = table.tally()
                snapshots.write(tally)
                server.sendall(Results.of(tally, QUESTION).frame())
                client.recv(65536)
                took.append(time.perf_counter() - began)
    return Quantiles.of(took).p50


def _comparisons(found: dict[Load, Latencies], chains: Sequence[float]) -> list[Comparison]:
    comparisons = []
    for load, what in found.items():
        parts = [("the median vote", "p50", what.one), ("99 of 100 votes", "p99", what.one)]
        if load.subscribers > 1:
            to_last = (
                ("the median vote, to the last", "p50", what.last),
                ("99 of 100 votes, to the last", "p99", what.last),
            )
            parts += to_last
        for case, quantile, ours in parts:
            others = [_figure("old design", quantile, what.old)]
            if quantile == "p50":
                others.append(Figure("chain alone", "ms", tuple(chains)))
            comparisons.append(Comparison(f"{load.name}: {case}", _figure("ours", quantile, ours), tuple(others)))
    return comparisons


def _figure(contender: str, quantile: str, values: Sequence[Quantiles]) -> Figure:
    return Figure(contender, "ms", tuple(float(getattr(value, quantile)) for value in values))


def _goals(found: dict[Load, Latencies]) -> list[Goal]:
    goals = []
    for load, what in found.items():
        if load.subscribers > 1 or load.rate > 100:
            continue
        ours, old = _figure("ours", "p50", what.one), _figure("old design", "p50", what.old)
        if load.rate == 100:
            goals.append(Goal(f"the median at {load.name}, ms", ours.median, 40, "at most"))
            goals.append(Goal(f"99 of 100 at {load.name}, ms", _figure("ours", "p99", what.one).median, 200, "at most"))
        sooner = 1 / Comparison(load.name, ours, (old,)).ratio("old design")
        goals.append(Goal(f"times sooner than the old design at {load.name}", sooner, 10, "at least"))
    return goals


def _plot(found: dict[Load, Latencies], audiences: Sequence[int]) -> Plot:
    curves = []
    for eyes in audiences:
        loads = [load for load in found if load.subscribers == eyes]
        for quantile, share in (("p50", "median"), ("p99", "99 of 100")):
            points = [(float(load.rate), _figure("ours", quantile, found[load].one).median) for load in loads]
            curves.append(
                Curve(f"{eyes:,} subscribers, {share}" if eyes > 1 else f"1 subscriber, {share}", tuple(points))
            )
    loads = [load for load in found if load.subscribers == audiences[0]]
    points = [(float(load.rate), _figure("old design", "p50", found[load].old).median) for load in loads]
    curves.append(Curve("old design, median", tuple(points)))
    return Plot("votes/s", "ms from vote to screen", tuple(curves), log_x=True, log_y=True)


def _eyes(subscribers: int) -> str:
    return f"{subscribers:,} subscribers" if subscribers > 1 else "1 subscriber"


BENCHMARK = Benchmark("screen", "How long does a vote take to the screen?", measure)
