"""The embedded stores of `python -m local`, for one benchmark alone, in a state directory that goes with it."""

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
    """Where the two stores answer, logins included."""

    redis_url: str
    postgres_url: str


@contextmanager
def running() -> Iterator[Stores]:
    """Start Valkey and PostgreSQL on free ports of the loopback, without data; stop them and delete what they wrote.

    Raises:
        local.stores.StoreError: one of them does not come up.
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
    """Make a state directory at *path* whose database is made and empty; return it."""
    subprocess.run(["cp", "-Rp", f"{_initialized().name}/state", str(path)], check=True)  # -p: it has an owner
    return path


@cache
def _initialized() -> "tempfile.TemporaryDirectory[str]":
    """A folder with a state directory whose database is made and empty, to be copied: initdb takes five times as long.

    It goes with the process.
    """
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    state = StateDir(Path(folder.name) / "state")
    state.open()
    asyncio.run(Postgres(state).prepare())
    state.close()
    return folder


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread: it watches over the stores while a benchmark has the main thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stores")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
