"""Thousands of subscribers on the local WebSocket API, and one change per second to all of them."""

import os
import statistics
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from bench.harness import stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Curve, Figure, Goal, Plot, Report, Scale
from bench.load.subscribers import Audience, Step
from bench.rivals.bare_broadcast import BareBroadcast
from tests.stack import Stack, running

SUBSCRIBERS = 5000
BLOCKS = 2
CHANGES = 10  # in each block
EVERY_S = 1.0
EVERY_BARE_S = 0.4
BUDGET = "BROADCAST_MESSAGES_PER_S", "1000000"
NOTES = (
    (
        "From the moment a vote is due at POST /api/votes until the last subscriber has a frame that contains it. The "
        "subscribers' process shares the two cores and takes part of the time itself, for the limit too."
    ),
    (
        "The limit is the library `websockets` with its own broadcast: no functions, no registry, and one call for all "
        "subscribers instead of a signed HTTP request for each."
    ),
    (
        "BROADCAST_MESSAGES_PER_S is raised: its default of 4,000 protects the throttle of an AWS account, which a "
        "laptop does not have, and would stretch the interval to 1.25 s."
    ),
)


def measure(scale: Scale) -> Report:
    """Change the results once a second, in blocks that alternate with the limit."""
    count, changes = (50, 1) if scale.smoke else (SUBSCRIBERS, CHANGES)
    ours: list[float] = []
    bare: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        _setting(*BUDGET),
        running(stores.initialize(Path(folder) / "state"), "--no-reload") as stack,
        BareBroadcast() as server,
    ):
        empty_mb = _memory_mb(stack.pid)
        with Audience(stack.websocket, count) as audience, Audience(server.url, count, rate=5000) as bare_audience:
            full_mb = _memory_mb(stack.pid)
            rates = [count / each.opening.took_s for each in (audience, bare_audience)]
            say(f"{rates[0]:.0f} connections per second, the limit {rates[1]:.0f}; {full_mb:.0f} MB")
            _ours(stack, audience, 0, 1)  # the first run of the worker begins a moment after the APIs listen
            for _ in range(scale.repetitions(BLOCKS)):
                ours += _ours(stack, audience, 1 + len(ours), changes)
                bare += _bare(server, bare_audience, len(bare), changes)
                say(
                    f"{statistics.median(ours):.0f} ms, at most {max(ours):.0f}; alone {statistics.median(bare):.0f} ms"
                )
            whole_mb = sum(_memory_mb(child.pid) for child in psutil.Process(stack.pid).children(recursive=True))
    comparisons = [
        Comparison(
            f"a change to the last of {count:,}",
            Figure("ours", "ms", tuple(ours)),
            (Figure("websockets alone", "ms", tuple(bare)),),
        ),
        Comparison(
            "subscribed at the start",
            Figure("ours", "connections/s", (rates[0],)),
            (Figure("websockets alone", "connections/s", (rates[1],)),),
        ),
        Comparison(
            f"memory of the gateway's process, with {count:,} and with none",
            Figure("ours", "MB", (full_mb,)),
            (Figure("without subscribers", "MB", (empty_mb,)),),
        ),
    ]
    goals = [Goal(f"ms to the last of {count:,}, the worst change", max(ours), 1000, "at most")]
    notes = (*NOTES, f"The whole stack, its stores and functions included, then held {full_mb + whole_mb:.0f} MB.")
    return Report(comparisons, goals, notes, _plot(ours, bare))


def _ours(stack: Stack, audience: Audience, before: int, changes: int) -> list[float]:
    due = []
    begin = time.monotonic()
    with httpx.Client(trust_env=False) as client:
        for change in range(changes):
            due.append(begin + change * EVERY_S)
            time.sleep(max(0.0, due[-1] - time.monotonic()))
            client.post(f"{stack.http}/api/votes", json={"vote": "a"}, timeout=30).raise_for_status()
            client.cookies.clear()  # the next vote is by another voter
    return _took_ms(due, before, audience.until(before + changes))


def _bare(server: BareBroadcast, audience: Audience, before: int, changes: int) -> list[float]:
    began = []
    for change in range(changes):
        began.append(server.change(before + change + 1))
        time.sleep(EVERY_BARE_S)
    return _took_ms(began, before, audience.until(before + changes))


def _took_ms(due: Sequence[float], before: int, steps: Sequence[Step]) -> list[float]:
    totals = [step.total for step in steps]
    return [
        (steps[bisect_left(totals, before + number)].last_at - moment) * 1000
        for number, moment in enumerate(due, start=1)
    ]


def _memory_mb(pid: int) -> float:
    """The proportional set size: private memory, plus a share of the shared pages."""
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


@contextmanager
def _setting(name: str, value: str) -> Iterator[None]:
    """Set the environment variable *name*, which the template passes on to the functions."""
    kept = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if kept is None:
            del os.environ[name]
        else:
            os.environ[name] = kept


def _plot(ours: Sequence[float], bare: Sequence[float]) -> Plot:
    curves = [
        Curve(name, tuple((float(number), value) for number, value in enumerate(values, start=1)))
        for name, values in (("ours", ours), ("websockets alone", bare))
    ]
    return Plot("change", "ms to the last subscriber", tuple(curves), log_y=True)


BENCHMARK = Benchmark("subscribers", "How soon does a change reach the last of 5,000 subscribers on a laptop?", measure)
