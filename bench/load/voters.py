"""Voters in their own process: `python -m bench.load.voters URL COUNT SECONDS SEED`, driven by `vote`.

An open loop: each vote is sent at its planned moment, whether or not earlier ones were answered.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
ANSWER_WITHIN_S = 30.0
LEAD_S = 0.2  # before the first vote
AGAIN_S = 0.1  # before a vote is sent again that was refused because every execution environment was busy


class Cast(NamedTuple):
    """One vote, on the monotonic clock."""

    due: float
    sent: float  # for the first time
    answered: float
    refused: int = 0  # times, before it was accepted


def moments(count: int, seconds: float, seed: int) -> list[float]:
    """*count* random moments within *seconds*, ascending: a Poisson process with a known number of events."""
    chance = random.Random(seed)
    return sorted(chance.uniform(0, seconds) for _ in range(count))


def vote(http_url: str, count: int, seconds: float, seed: int) -> list[Cast]:
    """Cast the votes of *count* new voters within *seconds*; return once all are answered.

    Raises:
        subprocess.CalledProcessError: a vote was answered with an error, or refused for 30 s.
    """
    arguments = [http_url, str(count), str(seconds), str(seed)]
    run = subprocess.run(
        [sys.executable, "-m", "bench.load.voters", *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    return [Cast(*cast) for cast in json.loads(run.stdout)]


class _Connection(asyncio.Protocol):
    """One persistent HTTP/1.1 connection, with one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def post(self, request: bytes) -> asyncio.Future[bytes]:
        """Send *request*; the response is complete with the last brace of its body."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received and self._received.endswith(b"}"):
            if not self._answer.done():  # it is done if another vote failed and cancelled all
                self._answer.set_result(self._received)
            self._received = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())


def _is_busy(answer: bytes) -> bool:
    """Whether the gateway had no free execution environment; a 503 of the function itself has an error code."""
    return answer.startswith(b"HTTP/1.1 503 ") and b'"error"' not in answer


class _VoterPool:
    """Casts votes over persistent connections, and opens another one if none is free."""

    def __init__(self, http_url: str) -> None:
        parts = urlsplit(http_url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._requests = [
            f"POST /api/votes HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f'Content-Length: 12\r\n\r\n{{"vote":"{choice}"}}'.encode()
            for choice in "ab"
        ]
        self._free: list[_Connection] = []

    async def cast(self, due: float, number: int) -> Cast:
        """Wait for the moment *due*, send a vote until it is accepted, and return the times."""
        await asyncio.sleep(due - time.monotonic())
        connection = self._free.pop() if self._free else await self._connect()
        sent = time.monotonic()
        refused = 0
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while _is_busy(answer := await connection.post(self._requests[number % 2])):
                refused += 1
                await asyncio.sleep(AGAIN_S)
        answered = time.monotonic()
        if not answer.startswith(b"HTTP/1.1 202"):
            raise ConnectionError(f"not accepted: {answer.decode()}")
        self._free.append(connection)
        return Cast(due, sent, answered, refused)

    async def _connect(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        return connection


async def _vote(http_url: str, count: int, seconds: float, seed: int) -> list[Cast]:
    pool = _VoterPool(http_url)
    begin = time.monotonic() + LEAD_S
    return await asyncio.gather(
        *(pool.cast(begin + moment, number) for number, moment in enumerate(moments(count, seconds, seed)))
    )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_vote(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))))
