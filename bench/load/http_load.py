"""Load on an HTTP server over persistent connections: by wrk if it is installed, or else by our own sockets."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
# What wrk sends, and what it prints at the end.
SCRIPT = """
wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["Content-Type"] = "%s"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %%d, "microseconds": %%d, "failed": %%d, "p50": %%d, "p99": %%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Post:
    """The request to repeat."""

    url: str
    body: str
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one load; rate and latencies are without the failed requests."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def generator() -> str:
    """The name of the load generator that `post` uses."""
    return "wrk" if shutil.which("wrk") else "asyncio"


def post(request: Post, connections: int, seconds: float) -> Outcome:
    """Repeat *request* on each of *connections* for *seconds*, as soon as the previous response is there."""
    if shutil.which("wrk"):
        return _wrk(request, connections, seconds)
    return asyncio.run(_sockets(request, connections, seconds))


def _wrk(request: Post, connections: int, seconds: float) -> Outcome:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % (request.body, request.content_type))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_S:.0f}s"]
        done = subprocess.run(
            [*command, "-s", script.name, request.url], capture_output=True, text=True, check=True, cwd=Path.cwd()
        )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    answered = found["requests"] - found["failed"]
    return Outcome(answered / found["microseconds"] * 1e6, found["p50"] / 1000, found["p99"] / 1000, found["failed"])


async def _sockets(request: Post, connections: int, seconds: float) -> Outcome:
    url = urlsplit(request.url)
    content = request.body.encode()
    message = (
        f"POST {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: {request.content_type}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content
    took_ms: list[float] = []
    failed = 0
    end = time.monotonic() + seconds

    async def send() -> None:
        nonlocal failed
        while time.monotonic() < end:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            keeps = True
            while keeps and time.monotonic() < end:
                started = time.perf_counter()
                writer.write(message)
                status, keeps = await _answer(reader)
                if status < 400:
                    took_ms.append((time.perf_counter() - started) * 1000)
                else:
                    failed += 1
            writer.close()

    started = time.monotonic()
    await asyncio.gather(*(send() for _ in range(connections)))
    took_ms.sort()
    share = len(took_ms) - 1
    return Outcome(len(took_ms) / (time.monotonic() - started), took_ms[share // 2], took_ms[int(share * 0.99)], failed)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status of the next response, and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split(" ")[1]), headers.get("connection") != "close"
