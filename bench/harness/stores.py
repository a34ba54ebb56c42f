"""The embedded stores of `python -m local` for one benchmark, in a temporary state directory."""

import asyncio
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
