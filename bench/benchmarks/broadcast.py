"""Broadcast: one results frame to each of many connections, compared with boto3 and with the limit of the server."""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import boto3
from redis import Redis

from bench.harness import stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Curve, Figure, Goal, Plot, Report, Scale, in_turns
from bench.load.management_stub import Management, serving
from bench.rivals.posters import (
    CREDENTIALS,
    FRAME,
    REGION,
    RESULTS,
    THREADS,
    connection_ids,
    differing_signatures,
    with_boto3,
    with_wrk,
)
from tests import certificate
from voting.broadcast.delivery import deliver
from voting.broadcast.planner import Shard
from voting.broadcast.poster import Poster
from voting.broadcast.posting_loop import ANSWER_WITHIN_S, IN_FLIGHT
from voting.broadcast.subscribers import BUCKETS, Subscribers

WRK_S = 2
MANY = 10_000
FEW = 500  # for boto3


@dataclass(frozen=True, slots=True)
class Condition:
    """How the server responds."""

    name: str
    secure: bool
    delay_ms: float = 0.0


PLAIN, TLS = Condition("plain HTTP", secure=False), Condition("TLS", secure=True)
LATE = Condition("TLS, 20 ms per response", secure=True, delay_ms=20.0)


@dataclass(slots=True)
class Contender:
    """A way to post the frame to connections, and how fast it was in each run."""

    name: str
    post: Callable[[Sequence[str]], None]
    count: int  # connections; a slow contender gets fewer, since its rate does not depend on them
    warm_up_posts: int = 1  # posts that open all its connections to the API
    rates: list[float] = field(default_factory=list)  # posts per second
    cpu_rates: list[float] = field(default_factory=list)  # posts per CPU-second

    def warm_up(self) -> None:
        self.post(connection_ids(self.warm_up_posts))

    def run(self) -> float:
        """Post to all connections once; return posts per second."""
        ids = connection_ids(self.count)
        gc.collect()
        cpu_s, began = time.process_time(), time.monotonic()
        self.post(ids)
        took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        self.rates.append(self.count / took_s)
        self.cpu_rates.append(self.count / cpu_s)
        say(f"{self.name}: {self.count:,} posts, {self.rates[-1]:,.0f}/s, {self.cpu_rates[-1]:,.0f} per CPU-second")
        return self.rates[-1]

    @property
    def figure(self) -> Figure:
        return Figure(self.name, "posts/s", tuple(self.rates))

    @property
    def cpu_figure(self) -> Figure:
        return Figure(self.name, "posts/CPU s", tuple(self.cpu_rates))


@dataclass(slots=True)
class Limit:
    """A load generator that finds out how many requests per second the server takes."""

    name: str
    load: Callable[[], float]
    rates: list[float] = field(default_factory=list)  # requests per second

    def run(self) -> float:
        self.rates.append(self.load())
        return self.rates[-1]

    @property
    def figure(self) -> Figure:
        return Figure(self.name, "posts/s", tuple(self.rates))


def measure(scale: Scale) -> Report:
    """Measure every condition, each with its alternatives."""
    findings = _Findings(scale)
    with _core() as (ours, theirs), tempfile.TemporaryDirectory(prefix="bench-") as folder:
        pem = certificate.write(Path(folder) / "loopback.pem")
        with _trusting(pem):
            for condition in (TLS, LATE) if scale.smoke else (PLAIN, TLS, LATE):
                say(f"{condition.name}, on core {ours}, answered from core {theirs}")
                with serving(theirs, pem if condition.secure else None, condition.delay_ms) as api:
                    _rates(findings, condition, api)
                    if condition is LATE:
                        _cold(findings, api)
                        _delivery(findings, api)
                        _faults(findings, api)
    signed = 200 if scale.smoke else 2000
    differing = differing_signatures(signed)
    findings.goals.append(
        Goal(f"signatures that differ from botocore's, of {signed:,} ids and tokens", differing, 0, "at most")
    )
    return findings.report()


@dataclass(slots=True)
class _Findings:
    scale: Scale
    comparisons: list[Comparison] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.many,) if self.scale.smoke else (100, 1000, self.many, 50_000)

    @property
    def many(self) -> int:
        return 100 if self.scale.smoke else MANY

    def report(self) -> Report:
        notes = [
            "The contender has one core to itself, the server the other.",
            "Connections and TLS sessions are open before the clock starts, except where a case says otherwise.",
            f"boto3 {boto3.__version__} posts to fewer connections: its rate does not depend on them.",
            "wrk sends the same signed request over and over.",
            *self.notes,
        ]
        curves = tuple(Curve(name, tuple(points)) for name, points in self.curves.items())
        plot = Plot("connections", "posts/s on one core", curves, log_x=True, log_y=True)
        return Report(self.comparisons, self.goals, notes, plot)


def _rates(findings: _Findings, condition: Condition, api: Management) -> None:
    """Measure each size; at the size of the goals, with the alternatives in turns."""
    for size in findings.sizes:
        with _ours(api) as poster:
            ours = Contender("ours", _checked(poster), size, findings.many)
            if size == findings.many and not (findings.scale.smoke and condition.delay_ms):
                _compare(findings, condition, api, ours)
            else:
                _measure_alone(findings, condition, ours)
        findings.curves.setdefault(condition.name, []).append((size, ours.figure.median))


def _measure_alone(findings: _Findings, condition: Condition, ours: Contender) -> None:
    ours.warm_up()
    for _ in range(findings.scale.repetitions(3)):
        ours.run()
    findings.comparisons.append(Comparison(_case(condition, ours), ours.figure))


def _compare(findings: _Findings, condition: Condition, api: Management, ours: Contender) -> None:
    """Run ours in turns with boto3, and with wrk where it is installed."""
    boto3s = _boto3s(condition, api, is_smoke=findings.scale.smoke)
    limits = _limits(condition, api, is_smoke=findings.scale.smoke)
    for contender in (ours, *boto3s):
        contender.warm_up()
    others: tuple[Contender | Limit, ...] = (*boto3s, *limits)
    for _ in in_turns(findings.scale.repetitions(5), ours.run, *(other.run for other in others)):
        pass
    by_clock = Comparison(_case(condition, ours), ours.figure, tuple(other.figure for other in others))
    by_core = Comparison(f"{by_clock.case}, per CPU-second", ours.cpu_figure, tuple(each.cpu_figure for each in boto3s))
    findings.comparisons += by_clock, by_core
    _judge(findings, condition, by_clock, by_core)


def _case(condition: Condition, ours: Contender) -> str:
    return f"{condition.name}, {ours.count:,} connections"


def _boto3s(condition: Condition, api: Management, *, is_smoke: bool) -> tuple[Contender, Contender]:
    """boto3 one post after the other, and in threads."""
    in_sequence = 40 if condition.delay_ms or is_smoke else FEW
    in_threads = 100 if is_smoke else FEW
    return (
        Contender("boto3 in sequence", with_boto3(api, 1), in_sequence),
        Contender(f"boto3 in {THREADS} threads", with_boto3(api, THREADS), in_threads, THREADS),
    )


def _limits(condition: Condition, api: Management, *, is_smoke: bool) -> list[Limit]:
    """wrk, where it is installed."""
    if not shutil.which("wrk"):
        return []
    connections = IN_FLIGHT if condition.delay_ms else THREADS
    return [Limit("wrk", partial(with_wrk, api, connections, 1 if is_smoke else WRK_S))]


def _judge(findings: _Findings, condition: Condition, by_clock: Comparison, by_core: Comparison) -> None:
    if condition is TLS:
        # On a shared core the wall clock depends on other programs; CPU time does not.
        for found, unit in ((by_clock, "posts per second"), (by_core, "posts per CPU-second")):
            ratio = min(found.ratio(other.contender) for other in found.others if other.contender.startswith("boto3"))
            findings.goals.append(Goal(f"over TLS on one core, {unit}, times the better boto3", ratio, 20, "at least"))
    if condition is LATE:
        took_s = MANY / by_clock.ours.median
        findings.goals.append(Goal("10,000 connections at 20 ms per response over TLS, seconds", took_s, 1, "at most"))


def _cold(findings: _Findings, api: Management) -> None:
    """The first broadcast of an execution environment, which opens every connection."""
    rates = []
    for _ in range(findings.scale.repetitions(3)):
        with _ours(api) as poster:
            contender = Contender("ours, in a new environment", _checked(poster), findings.many)
            rates.append(contender.run())
    figure = Figure("ours", "posts/s", tuple(rates))
    findings.comparisons.append(
        Comparison(f"{LATE.name}, {findings.many:,} connections, no connection open yet", figure)
    )
    findings.goals.append(
        Goal("the same in a new environment, TLS handshakes included", MANY / figure.median, 1, "at most")
    )


def _delivery(findings: _Findings, api: Management) -> None:
    """Everything that ws_broadcast does: read the registry in Valkey, post, record progress."""
    shard = Shard(tuple(range(BUCKETS)), findings.many, pace=float("inf"), within_s=20.0)
    with stores.running() as started, Redis.from_url(started.redis_url) as redis, _ours(api) as poster:
        subscribers = Subscribers(redis)
        versions = count()
        for connection_id in connection_ids(findings.many):
            subscribers.add(connection_id)

        def post(ids: Sequence[str]) -> None:
            newer = RESULTS._replace(version=RESULTS.version + next(versions))  # no version is sent twice
            outcome = deliver(shard, subscribers, lambda: newer, poster, remaining_s=30.0)
            assert outcome.sent == len(ids), outcome

        contender = Contender("ours, with the registry", post, findings.many)
        post(connection_ids(findings.many))  # opens the connections
        for _ in range(findings.scale.repetitions(5)):
            contender.run()
    case = f"{LATE.name}, {findings.many:,} connections out of the registry"
    findings.comparisons.append(Comparison(case, Figure("ours", "posts/s", tuple(contender.rates))))


def _faults(findings: _Findings, api: Management) -> None:
    """With 2% gone, 1% throttled at first and 1% hanging: when does the last healthy connection get its frame?"""
    worst = 0.0  # of the large sizes: in a small one, a throttled connection that backs off comes last
    for size in findings.sizes:
        with _ours(api) as poster:
            poster.post(connection_ids(size), FRAME)
            post = partial(poster.post, frame=FRAME)
            last = [_last_sent_s(api, post, size, hanging=hanging) for hanging in (True, False)]
            theirs = []
            if size == 1000 and not findings.scale.smoke:
                alternative = with_boto3(api, THREADS)
                theirs.append(_last_sent_s(api, alternative, size, hanging=True))
            found = list(in_turns(findings.scale.repetitions(3), *last, *theirs))
        ours, without, *boto = (tuple(values) for values in zip(*found, strict=True))
        figures = [Figure("without hanging ones", "ms", without)]
        figures += [Figure(f"boto3 in {THREADS} threads", "ms", values) for values in boto]
        case = f"the last healthy one of {size:,} (2% gone, 1% throttled, 1% hanging; {LATE.name})"
        findings.comparisons.append(Comparison(case, Figure("ours", "ms", ours), tuple(figures)))
        if size >= findings.many:
            worst = max(worst, findings.comparisons[-1].ratio("without hanging ones"))
    findings.goals.append(
        Goal("the last healthy connection has its frame: with hanging ones ÷ without", worst, 1.25, "at most")
    )
    findings.notes.append(
        f"A hanging connection is given up after {ANSWER_WITHIN_S:.0f} s; the others have their frames long before."
    )


def _last_sent_s(
    api: Management, post: Callable[[Sequence[str]], object], size: int, *, hanging: bool
) -> Callable[[], float]:
    """A run that returns the milliseconds until the last 200."""

    def run() -> float:
        ids = connection_ids(size, faulty=True, hanging=hanging)
        api.told()
        began = time.monotonic()
        post(ids)
        took_ms = (api.told().last_sent_at - began) * 1000
        faults = "with" if hanging else "without"
        say(f"{size:,} {faults} hanging ones: the last healthy one has its frame after {took_ms:.0f} ms")
        return took_ms

    return run


@contextmanager
def _core() -> Iterator[tuple[int, int]]:
    """Pin this process to one core and yield it with another for the server, if there are two."""
    allowed = os.sched_getaffinity(0)
    ours, theirs = min(allowed), max(allowed)
    os.sched_setaffinity(0, {ours})
    try:
        yield ours, theirs
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _trusting(pem: Path) -> Iterator[None]:
    """Make every TLS context created inside trust *pem*."""
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE")}
    os.environ.update(dict.fromkeys(before, str(pem)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _ours(api: Management) -> Iterator[Poster]:
    poster = Poster(f"{'wss' if api.secure else 'ws'}://127.0.0.1:{api.port}/live", REGION, CREDENTIALS)
    try:
        yield poster
    finally:
        poster.close()


def _checked(poster: Poster) -> Callable[[Sequence[str]], None]:
    def post(ids: Sequence[str]) -> None:
        outcome = poster.post(ids, FRAME)
        assert outcome.sent == len(ids), outcome

    return post


BENCHMARK = Benchmark("broadcast", "How fast does a frame get to every subscriber?", measure)
