"""Subscribers in their own process: `python -m bench.load.subscribers URL COUNT RATE`, driven by `Audience`.

They share the machine with the measured system, so they are as cheap as possible: a protocol on raw bytes, and one
record per frame. The records are evaluated when the results are requested.
"""

import asyncio
import contextlib
import gc
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
AT_ONCE = 64  # handshakes at the same time
SUBSCRIBE = b'{"action": "subscribe"}'
PATIENCE_S = 120.0  # for a busy machine: late frames are measured, not treated as errors


class Arrival(NamedTuple):
    """One frame at one subscriber, on the monotonic clock that all processes share."""

    at: float
    subscriber: int
    version: int
    total: int


class Step(NamedTuple):
    """When a total, or a greater one, first reached one random subscriber, and when it reached the last of all."""

    total: int
    one_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Opening:
    """How the subscribers connected."""

    took_s: float
    total: int  # votes in the first results


def steps(arrivals: Sequence[Arrival], subscribers: int, one: int) -> list[Step]:
    """Compute when each total was reached; a total that some subscriber lacks is left out.

    A subscriber with a greater total has reached the smaller ones too, although it may never have received them.
    """
    frames: list[list[tuple[int, float]]] = [[] for _ in range(subscribers)]
    for arrival in arrivals:
        frames[arrival.subscriber].append((arrival.total, arrival.at))
    totals = sorted({arrival.total for arrival in arrivals})
    last = dict.fromkeys(totals, 0.0)
    ones: dict[int, float] = {}
    for subscriber, seen in enumerate(frames):
        first = _first_reached(seen, totals)
        for total in totals:
            last[total] = max(last[total], first[total])
        if subscriber == one:
            ones = first
    return [Step(total, ones[total], last[total]) for total in totals if last[total] < float("inf")]


def _first_reached(seen: Sequence[tuple[int, float]], totals: Sequence[int]) -> dict[int, float]:
    """For each of the ascending *totals*, the time of the first frame with at least that many; infinity if none."""
    first: dict[int, float] = {}
    reached = float("inf")
    left = sorted(seen)
    for total in reversed(totals):
        while left and left[-1][0] >= total:
            reached = min(reached, left.pop()[1])
        first[total] = reached
    return first


class Audience:
    """A process with subscribers to *url*; once entered, all have their first results."""

    def __init__(self, url: str, count: int, *, rate: int = 450) -> None:
        """Open *count* connections, at most *rate* per second (API Gateway takes 500)."""
        self._arguments = [url, str(count), str(rate)]
        self.opening: Opening

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load.subscribers", *self._arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.opening = Opening(**self._answer())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def until(self, total: int) -> list[Step]:
        """Wait until every subscriber has *total*, and return the steps since the last call.

        Raises:
            RuntimeError: it took more than two minutes, or a connection was lost.
        """
        self._pipe(self._process.stdin).write(f"{total}\n")
        self._pipe(self._process.stdin).flush()
        return [Step(*step) for step in self._answer()]

    def _stop(self) -> None:
        self._pipe(self._process.stdin).close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe(self._process.stdout).close()

    def _answer(self) -> Any:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"the subscribers failed: {' '.join(self._arguments)}")
        return json.loads(line)

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


# ---------------------------------------------------------------- the process


class _SubscriberPool:
    """All subscribers of this process, and what they received."""

    def __init__(self, url: str, count: int, rate: int) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._count = count
        self._rate = rate
        self._one = random.randrange(count)
        self.handshake = (
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        self._arrivals: list[Arrival] = []
        self._totals = [-1] * count  # the greatest total of each subscriber
        self._behind = count
        self._wanted = 0
        self._reached: asyncio.Future[None]
        self._known: dict[bytes, tuple[int, int]] = {}  # version and total of each payload

    async def open(self) -> Opening:
        began = time.monotonic()
        free = asyncio.Semaphore(AT_ONCE)
        self.want(0)
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                await free.acquire()
                await asyncio.sleep(began + number / self._rate - time.monotonic())
                group.create_task(self._enter(number, free))
        await asyncio.wait_for(self._reached, PATIENCE_S)
        self._arrivals.clear()
        return Opening(time.monotonic() - began, self._totals[self._one])

    async def _enter(self, number: int, free: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()
        subscribed: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(lambda: _Subscriber(self, number, subscribed), *self._address)
        await asyncio.wait_for(subscribed, PATIENCE_S)
        free.release()

    def want(self, total: int) -> None:
        """Begin to wait until every subscriber has *total*."""
        self._reached = asyncio.get_running_loop().create_future()
        self._wanted = total
        self._behind = sum(has < total for has in self._totals)
        if not self._behind:
            self._reached.set_result(None)

    async def reached(self) -> list[Step]:
        """Wait for the wanted total; return the steps since the last call."""
        await asyncio.wait_for(self._reached, PATIENCE_S)
        arrivals, self._arrivals = self._arrivals, []
        self._known.clear()
        return steps(arrivals, self._count, self._one)

    def note(self, number: int, payload: bytes) -> None:
        at = time.monotonic()
        known = self._known.get(payload)
        if known is None:
            known = self._known[payload] = self._read(payload)
        self._arrivals.append(Arrival(at, number, *known))
        total = known[1]
        had = self._totals[number]
        if total > had:
            self._totals[number] = total
            if had < self._wanted <= total:
                self._behind -= 1
                if not self._behind and not self._reached.done():
                    self._reached.set_result(None)

    def lost(self, reason: str) -> None:
        if not self._reached.done():
            self._reached.set_exception(ConnectionError(reason))

    @staticmethod
    def _read(payload: bytes) -> tuple[int, int]:
        message = json.loads(payload)
        if message.get("type") != "results":
            raise ConnectionError(f"no results: {payload.decode()}")
        return message["version"], message["total"]


class _Subscriber(asyncio.Protocol):
    """One connection. It relies on the server: no masks, no fragments, and frames below 64 KB."""

    def __init__(self, pool: _SubscriberPool, number: int, subscribed: asyncio.Future[None]) -> None:
        self._pool = pool
        self._number = number
        self._subscribed = subscribed
        self._unread = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._pool.handshake)

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        if not self._open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._unread = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._pool.lost(head.decode("latin-1"))
                return
            self._open = True
            self._transport.write(_masked(SUBSCRIBE))
        while len(data) > 4:
            start, length = (2, data[1]) if data[1] < 126 else (4, int.from_bytes(data[2:4]))
            if len(data) < start + length:
                break
            self._pool.note(self._number, data[start : start + length])
            data = data[start + length :]
            if not self._subscribed.done():
                self._subscribed.set_result(None)
        self._unread = data

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(f"the server closed the connection: {exc}")


def _masked(text: bytes) -> bytes:
    """A client's text frame of up to 125 bytes. RFC 6455, section 5.3; a mask of zeros leaves the text as it is."""
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text


async def _serve(url: str, count: int, rate: int) -> None:
    """Print how the subscribers connected; then wait for each total that is asked for."""
    pool = _SubscriberPool(url, count, rate)
    opening = await pool.open()
    _print({"took_s": opening.took_s, "total": opening.total})
    gc.collect()
    gc.freeze()
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while question := await questions.readline():
        pool.want(int(question))
        _print(await pool.reached())
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(0)  # the kernel closes thousands of sockets faster than we do one by one


def _print(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
