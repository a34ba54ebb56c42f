"""The embedded stores of `python -m local` for one benchmark, in a temporary state directory."""

import asyncio
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from local.host.state_dir import StateDir
from local.stores.postgres import Postgres
from local.stores.store import Store
from local.stores.valkey import Valkey

START_AND_STOP_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Stores:
    """The URLs of the two stores, logins included."""

    redis_url: str
    postgres_url: str


@contextmanager
def running() -> Iterator[Stores]:
    """Start Valkey and PostgreSQL, empty, on free loopback ports; at the end stop them and delete their data.

    Raises:
        local.stores.store.StoreError: one of them does not start.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _loop() as loop:

        def run(work: Coroutine[Any, Any, None]) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(START_AND_STOP_TIMEOUT_S)

        state = StateDir(initialize(Path(folder) / "state"))
        state.open()
        redis, postgres = Store(Valkey(state), state), Store(Postgres(state), state)
        try:
            run(postgres.start())
            run(redis.start())
            yield Stores(redis.url, postgres.url)
        finally:
            run(redis.close())
            run(postgres.close())
            state.close()


@contextmanager
def replica_of(redis_url: str) -> Iterator[None]:
    """Run a second Valkey that has all of the first one's data, and stop it at the end."""
    primary = urlsplit(redis_url)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _loop() as loop:
        state = StateDir(Path(folder) / "state")
        state.open()
        store = Store(Valkey(state), state)
        try:
            asyncio.run_coroutine_threadsafe(store.start(), loop).result(START_AND_STOP_TIMEOUT_S)
            with Redis.from_url(store.url) as replica, Redis.from_url(redis_url) as redis:
                replica.config_set("masterauth", primary.password or "")
                replica.replicaof(primary.hostname or "", primary.port or 0)
                deadline = time.monotonic() + START_AND_STOP_TIMEOUT_S
                while not redis.wait(1, 100) and time.monotonic() < deadline:
                    continue
                assert redis.wait(1, 100) == 1, "the replica does not follow"
            yield
        finally:
            asyncio.run_coroutine_threadsafe(store.close(), loop).result(START_AND_STOP_TIMEOUT_S)
            state.close()


def initialize(path: Path) -> Path:
    """Make a state directory with an empty database at *path*; return it."""
    subprocess.run(["cp", "-Rp", f"{_initialized().name}/state", str(path)], check=True)  # -p keeps the owner
    return path


@cache
def _initialized() -> "tempfile.TemporaryDirectory[str]":
    """A folder with a state directory and an empty database; to copy it takes a fifth of the time of initdb.

    It is deleted when the process ends.
    """
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    state = StateDir(Path(folder.name) / "state")
    state.open()
    asyncio.run(Postgres(state).prepare())
    state.close()
    return folder


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread: it supervises the stores while a benchmark uses the main thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stores")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
