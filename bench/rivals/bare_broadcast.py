"""The upper limit for subscribers: `python -m bench.rivals.bare_broadcast`, the library `websockets` alone.

A server in its own process that sends results to every new connection and broadcasts totals on demand: no functions,
no registry, no post per connection. `BareBroadcast` drives it.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Self

from websockets.asyncio.server import ServerConnection, broadcast, serve

ROOT = Path(__file__).parents[2]


class BareBroadcast:
    """The process of the server, which serves at `url` while this is entered."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.rivals.bare_broadcast"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"ws://127.0.0.1:{int(self._pipe(self._process.stdout).readline())}/live"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe(self._process.stdin).close()
        self._pipe(self._process.stdout).close()

    def change(self, total: int) -> float:
        """Broadcast *total*; return the monotonic time of the start."""
        began = time.monotonic()
        self._pipe(self._process.stdin).write(f"{total}\n")
        self._pipe(self._process.stdin).flush()
        return began

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _frame(total: int) -> str:
    """A frame as long as ours."""
    options = [{"id": choice, "label": "Cats", "votes": total // 2, "percent": 50.0} for choice in "ab"]
    return json.dumps({"type": "results", "version": total, "total": total, "options": options}, separators=(",", ":"))


async def _greet(connection: ServerConnection) -> None:
    await connection.recv()
    await connection.send(_frame(0))
    await connection.wait_closed()


async def _serve() -> None:
    async with serve(_greet, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        totals = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(totals), sys.stdin)
        while total := await totals.readline():
            broadcast(server.connections, _frame(int(total)))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_serve())
