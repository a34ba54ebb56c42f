"""Broadcast: one results frame to each of many connections, beside boto3 and beside what the server itself can take."""

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import boto3
from redis import Redis

from bench.harness import stores
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
    """What answers, and how."""

    name: str
    secure: bool
    delay_ms: float = 0.0


PLAIN, TLS = Condition("plain HTTP", secure=False), Condition("TLS", secure=True)
LATE = Condition("TLS, 20 ms an answer", secure=True, delay_ms=20.0)


@dataclass(slots=True)
class Contender:
    """Somebody who posts the frame to connections, and what that took."""

    name: str
    post: Callable[[Sequence[str]], None]
    count: int  # connections; a slow contender is measured on fewer, since its rate does not depend on them
    lines: int = 1  # posts beforehand that open all its lines
    rates: list[float] = field(default_factory=list)  # posts/s
    cpu_rates: list[float] = field(default_factory=list)  # posts for each second of the core

    def run(self) -> float:
        ids = connection_ids(self.count)
        gc.collect()
        cpu_s, began = time.process_time(), time.monotonic()
        self.post(ids)
        took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        self.rates.append(self.count / took_s)
        self.cpu_rates.append(self.count / cpu_s)
        say(f"{self.name}: {self.count:,} posts, {self.rates[-1]:,.0f}/s, {self.cpu_rates[-1]:,.0f} per CPU second")
        return self.rates[-1]


def measure(scale: Scale) -> Report:
    """Measure every condition, each beside its alternatives."""
    report = _Findings(scale)
    with _core() as (ours, theirs), tempfile.TemporaryDirectory(prefix="bench-") as folder:
        pem = certificate.write(Path(folder) / "loopback.pem")
        with _trusting(pem):
            for condition in (TLS, LATE) if scale.smoke else (PLAIN, TLS, LATE):
                say(f"{condition.name}, on core {ours}, answered from core {theirs}")
                with serving(theirs, pem if condition.secure else None, condition.delay_ms) as api:
                    _rates(report, condition, api)
                    if condition is LATE:
                        _cold(report, api)
                        _delivery(report, api)
                        _faults(report, api)
    signed = 200 if scale.smoke else 2000
    differing = differing_signatures(signed)
    report.goals.append(
        Goal(f"signatures that differ from botocore's, of {signed:,} ids and tokens", differing, 0, "at most")
    )
    return report.report()


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
            "Whoever posts has one core to itself, the server the other.",
            "Lines and TLS sessions are open before the clock starts, except where a case says that none is.",
            f"boto3 {boto3.__version__} posts to fewer connections: its rate does not depend on them.",
            "wrk sends one and the same signed request over and over.",
            *self.notes,
        ]
        curves = tuple(Curve(name, tuple(points)) for name, points in self.curves.items())
        plot = Plot("connections", "posts/s on one core", curves, log_x=True, log_y=True)
        return Report(self.comparisons, self.goals, notes, plot)


def _rates(report: _Findings, condition: Condition, api: Management) -> None:
    smoke = report.scale.smoke
    for size in report.sizes:
        with _ours(api) as poster:
            ours = Contender("ours", _checked(poster), size, report.many)
            others: list[Contender] = []
            limits: list[float] = []
            if size == report.many and not (smoke and condition.delay_ms):
                others = [
                    Contender("boto3 in sequence", with_boto3(api, 1), 40 if condition.delay_ms or smoke else FEW),
                    Contender(f"boto3 in {THREADS} threads", with_boto3(api, THREADS), 100 if smoke else FEW, THREADS),
                ]
            for contender in (ours, *others):
                contender.post(connection_ids(contender.lines))
            wrk = shutil.which("wrk") if others else None
            runs = [contender.run for contender in (ours, *others)]
            if wrk:
                runs.append(partial(with_wrk, api, IN_FLIGHT if condition.delay_ms else THREADS, 1 if smoke else WRK_S))
            for values in in_turns(report.scale.repetitions(5 if others else 3), *runs):
                limits += values[1 + len(others) :]
        case = f"{condition.name}, {size:,} connections"
        figures = [Figure(each.name, "posts/s", tuple(each.rates)) for each in others]
        if limits:
            figures.append(Figure("wrk", "posts/s", tuple(limits)))
        report.comparisons.append(Comparison(case, Figure("ours", "posts/s", tuple(ours.rates)), tuple(figures)))
        report.curves.setdefault(condition.name, []).append((size, report.comparisons[-1].ours.median))
        if others:
            cpu = [Figure(each.name, "posts/CPU s", tuple(each.cpu_rates)) for each in (ours, *others)]
            report.comparisons.append(Comparison(f"{case}, by the core's time", cpu[0], tuple(cpu[1:])))
            _judge(report, condition, *report.comparisons[-2:])


def _judge(report: _Findings, condition: Condition, by_clock: Comparison, by_core: Comparison) -> None:
    if condition is TLS:
        # A core that other programs share leaves the clock to luck: then the time that the posts took of it tells more.
        for found, unit in ((by_clock, "posts a second"), (by_core, "posts for a second of the core's time")):
            ratio = min(found.ratio(other.contender) for other in found.others if other.contender.startswith("boto3"))
            report.goals.append(Goal(f"over TLS on one core, {unit}, times the better boto3", ratio, 20, "at least"))
    if condition is LATE:
        took_s = MANY / by_clock.ours.median
        report.goals.append(Goal("10,000 connections at 20 ms an answer over TLS, seconds", took_s, 1, "at most"))


def _cold(report: _Findings, api: Management) -> None:
    """The first broadcast of an execution environment: every line is still to be opened."""
    rates = []
    for _ in range(report.scale.repetitions(3)):
        with _ours(api) as poster:
            contender = Contender("ours, in a new environment", _checked(poster), report.many)
            rates.append(contender.run())
    figure = Figure("ours", "posts/s", tuple(rates))
    report.comparisons.append(Comparison(f"{LATE.name}, {report.many:,} connections, no line open yet", figure))
    report.goals.append(
        Goal("the same in a new environment, TLS handshakes included", MANY / figure.median, 1, "at most")
    )


def _delivery(report: _Findings, api: Management) -> None:
    """All that ws_broadcast does: read the registry in Valkey, post, record."""
    shard = Shard(tuple(range(BUCKETS)), report.many, pace=float("inf"), within_s=20.0)
    with stores.running() as started, Redis.from_url(started.redis_url) as redis, _ours(api) as poster:
        subscribers = Subscribers(redis)
        versions = count()
        for connection_id in connection_ids(report.many):
            subscribers.add(connection_id)

        def post(ids: Sequence[str]) -> None:
            newer = replace(RESULTS, version=RESULTS.version + next(versions))  # or nobody would be sent it again
            outcome = deliver(shard, subscribers, lambda: newer, poster, remaining_s=30.0)
            assert outcome.sent == len(ids), outcome

        contender = Contender("ours, with the registry", post, report.many)
        post(connection_ids(report.many))  # opens the lines
        for _ in range(report.scale.repetitions(5)):
            contender.run()
    case = f"{LATE.name}, {report.many:,} connections out of the registry"
    report.comparisons.append(Comparison(case, Figure("ours", "posts/s", tuple(contender.rates))))


def _faults(report: _Findings, api: Management) -> None:
    """2% gone, 1% throttled at first, 1% hanging: when has the last healthy connection its frame?"""
    worst = 0.0  # of the many: among a few, one that is throttled and backs off is the last
    for size in report.sizes:
        with _ours(api) as poster:
            poster.post(connection_ids(size), FRAME)
            post = partial(poster.post, frame=FRAME)
            last = [_last_sent_s(api, post, size, hanging=hanging) for hanging in (True, False)]
            theirs = []
            if size == 1000 and not report.scale.smoke:
                alternative = with_boto3(api, THREADS)
                theirs.append(_last_sent_s(api, alternative, size, hanging=True))
            found = list(in_turns(report.scale.repetitions(3), *last, *theirs))
        ours, without, *boto = (tuple(values) for values in zip(*found, strict=True))
        figures = [Figure("nobody hangs", "ms", without)]
        figures += [Figure(f"boto3 in {THREADS} threads", "ms", values) for values in boto]
        case = f"the last healthy one of {size:,} (2% gone, 1% throttled, 1% hanging; {LATE.name})"
        report.comparisons.append(Comparison(case, Figure("ours", "ms", ours), tuple(figures)))
        if size >= report.many:
            worst = max(worst, report.comparisons[-1].ratio("nobody hangs"))
    report.goals.append(
        Goal("the last healthy connection has its frame: beside hanging ones ÷ without", worst, 1.25, "at most")
    )
    report.notes.append(
        f"A hanging connection is given up on after {ANSWER_WITHIN_S:.0f} s; the others have it long before."
    )


def _last_sent_s(
    api: Management, post: Callable[[Sequence[str]], object], size: int, *, hanging: bool
) -> Callable[[], float]:
    """A run that tells after how many milliseconds the last post was answered 200."""

    def run() -> float:
        ids = connection_ids(size, faulty=True, hanging=hanging)
        api.told()
        began = time.monotonic()
        post(ids)
        took_ms = (api.told().last_sent_at - began) * 1000
        beside = "hanging ones" if hanging else "none that hangs"
        say(f"{size:,} beside {beside}: the last healthy one has its frame after {took_ms:.0f} ms")
        return took_ms

    return run


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def _core() -> Iterator[tuple[int, int]]:
    """One core for whoever posts, and another for the server, if there are two."""
    allowed = os.sched_getaffinity(0)
    ours, theirs = min(allowed), max(allowed)
    os.sched_setaffinity(0, {ours})
    try:
        yield ours, theirs
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _trusting(pem: Path) -> Iterator[None]:
    """Have every TLS context that is made meanwhile trust *pem*."""
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
