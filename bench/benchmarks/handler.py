"""The warm function vote: one whole invocation, compared with the round trip to Redis that it needs."""

import contextlib
import gc
import importlib.util
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from bench.harness import stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Figure, Goal, Report, Scale, in_turns
from voting.clients import Clients
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.vote import Vote

ROOT = Path(__file__).parents[2]
CALLS = 200  # in a row, averaged to one value
REPETITIONS = 60
UNIT = "µs"
CONFIRMED, ALONE = "VoteQueue.push, confirmed by a replica", "VoteQueue.push, not waiting for it"
OURS, PUSH, LPUSH, RAW = "the whole handler", "VoteQueue.push", "redis-py LPUSH", "raw socket LPUSH"
NOTES = (
    (
        f"Each value is the mean of {CALLS} calls in a row; the contenders run in turns. The ratios are medians of the "
        "paired values."
    ),
    (
        "The handler gets the event of a voter who has voted before: it verifies cookies, signs the choice and prints "
        "a metric (to /dev/null). The overhead of awslambdaric is part of the benchmark `local`."
    ),
    "The raw socket sends the bytes of one LPUSH and reads `:<n>`: Redis and the kernel, without a client library.",
)


@dataclass(frozen=True, slots=True)
class _Context:
    """The context that awslambdaric passes to a handler."""

    function_name: str = "VoteFunction"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:VoteFunction"
    aws_request_id: str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"


def measure(scale: Scale) -> Report:
    """Call the contenders in turns in this process, on one Valkey."""
    repetitions = 3 if scale.smoke else REPETITIONS
    turns: list[tuple[float, ...]] = []
    with (
        stores.running() as running,
        _contenders(running.redis_url) as contenders,
        Redis.from_url(running.redis_url) as redis,
    ):
        for turn in in_turns(repetitions, *(_timed(call) for call in contenders.values())):
            turns.append(turn)
            redis.delete("votes")  # so that its length does not matter
    figures = {
        name: Figure(name, UNIT, values) for name, values in zip(contenders, zip(*turns, strict=True), strict=True)
    }
    for name, figure in figures.items():
        say(f"{name}: {figure.median:.0f} {UNIT}")
    confirmed = _confirmed(repetitions)
    others = (figures[LPUSH], figures[RAW])
    vote = Comparison("one vote by POST /api/votes", figures[OURS], others)
    push = Comparison("of which the push", figures[PUSH], others)
    return Report(
        comparisons=(vote, push, confirmed),
        goals=(Goal("at most 2.5 times a raw LPUSH round trip", vote.ratio(LPUSH), 2.5, "at most"),),
        notes=NOTES,
    )


def _confirmed(repetitions: int) -> Comparison:
    """Push to a Valkey that has a replica, with and without waiting for it (`ConfirmByReplica`)."""
    vote = Vote("a", 32 * "0")
    with stores.running() as running, stores.replica_of(running.redis_url), ExitStack() as stack:
        queues = []
        for confirm_by_replica in (True, False):
            clients = Clients(Settings({"REDIS_URL": running.redis_url}), redis_retries=0)
            stack.callback(clients.close)
            queues.append(VoteQueue(clients.redis(), confirm_by_replica=confirm_by_replica))
        turns = list(in_turns(repetitions, *(_timed(partial(queue.push, vote)) for queue in queues)))
    ours, theirs = (
        Figure(name, UNIT, values) for name, values in zip((CONFIRMED, ALONE), zip(*turns, strict=True), strict=True)
    )
    say(f"{ours.contender}: {ours.median:.0f} {UNIT}, without {theirs.median:.0f} {UNIT}")
    return Comparison("the push, where a replica must have it", ours, (theirs,))


@contextmanager
def _contenders(redis_url: str) -> Iterator[Mapping[str, Callable[[], object]]]:
    with ExitStack() as stack:
        stack.enter_context(_environment({"REDIS_URL": redis_url, "COOKIE_KEYS": "only-for-the-benchmark-0123456789"}))
        silence = stack.enter_context(Path(os.devnull).open("w", buffering=1))
        app = _load(ROOT / "functions" / "vote" / "app.py")
        stack.callback(lambda: app.clients().close())
        handler, event, context = app.handler, _event(), _Context()
        stack.enter_context(contextlib.redirect_stdout(silence))
        event["cookies"] = [cookie.partition(";")[0] for cookie in handler(event, context)["cookies"]]
        vote = app.Vote("a", 32 * "0")
        message = vote.encode()
        redis = stack.enter_context(Redis.from_url(redis_url, protocol=2, socket_timeout=0.9))
        raw = stack.enter_context(_Raw.connected(redis_url))
        gc.collect()
        yield {
            OURS: lambda: handler(event, context),
            PUSH: lambda: app.queue().push(vote),
            LPUSH: lambda: redis.lpush("votes", message),
            RAW: lambda: raw.lpush(message),
        }


class _Raw:
    """A bare socket to Redis."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def connected(cls, redis_url: str) -> Iterator["_Raw"]:
        url = urlsplit(redis_url)
        with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw = cls(connection)
            raw.ask(f"AUTH {url.password}\r\n".encode())
            yield raw

    def ask(self, command: bytes) -> bytes:
        self._connection.sendall(command)
        answer = self._connection.recv(4096)
        assert answer[:1] in b"+:", answer
        return answer

    def lpush(self, message: bytes) -> None:
        self.ask(b"*3\r\n$5\r\nLPUSH\r\n$5\r\nvotes\r\n$%d\r\n%b\r\n" % (len(message), message))


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    """Microseconds per call."""

    def timed() -> float:
        for _ in range(10):
            call()
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        return (time.perf_counter() - started) / CALLS * 1e6

    return timed


def _event() -> dict[str, Any]:
    event: dict[str, Any] = json.loads((ROOT / "events" / "http-post-json.json").read_text())
    return event


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("app_of_vote", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


BENCHMARK = Benchmark("handler", "What does a vote cost on top of the round trip to Redis?", measure)
