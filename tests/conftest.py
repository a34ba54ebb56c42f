"""Stores and clients that tests of every kind share. The stores are real, and belong to this test run alone."""

import asyncio
import importlib.util
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from awslambdaric.lambda_context import LambdaContext
from redis import Redis

from local.host.state_dir import StateDir
from local.stores.postgres import Postgres
from local.stores.store import Store
from local.stores.valkey import Valkey
from tests.debian_postgres import debian_postgres
from tests.management_api import ManagementApi
from tests.stack import Stack, running
from voting.clients import Clients
from voting.observability import sampler
from voting.settings import Settings

ROOT = Path(__file__).parents[1]
Handler = Callable[[dict[str, Any], LambdaContext], Any]

# Property tests try the same examples everywhere. TEST_EXAMPLES=20 tries twenty times as many, and others each time.
MORE = int(os.environ.get("TEST_EXAMPLES", "1"))
hypothesis.settings.register_profile(
    "ours",
    max_examples=100 * MORE,
    derandomize=MORE == 1,
    database=None,
    deadline=None,  # a busy machine must not fail
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # for the same reason
)
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="let the browser tests renew docs/images/*.png")
    parser.addoption("--steady-ticks", type=int, default=1, help="over how many of the worker's ticks to vote steadily")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the system printed last where a test that uses it fails."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):  # tests of the template have a fixture of this name, too
        report.sections.append(("log of the system", "\n".join(stack.log.splitlines()[-200:])))
    return report


@dataclass(frozen=True)
class Stores:
    redis: Store
    postgres: Store
    run: Callable[[Coroutine[Any, Any, None]], None]  # on the loop that watches over them


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """The embedded stores of `python -m local`, for this test run alone."""
    state = StateDir(tmp_path_factory.mktemp("stores"))
    state.open()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stores")
    thread.start()

    def run(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(90)

    started = Stores(Store(Valkey(state), state), Store(Postgres(state), state), run)
    run(started.postgres.start())
    run(started.redis.start())
    with psycopg.connect(started.postgres.url, autocommit=True) as database:
        # What a killed server has written survives it all the same; only a machine's crash would lose it.
        database.execute("ALTER SYSTEM SET fsync = off")
        database.execute("SELECT pg_reload_conf()")
    yield started
    run(started.redis.close())
    run(started.postgres.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    state.close()


@pytest.fixture(scope="session")
def redis_url(stores: Stores) -> str:
    return stores.redis.url


@pytest.fixture(scope="session")
def database_url(stores: Stores) -> str:
    return stores.postgres.url


@pytest.fixture(scope="session")
def debian_url() -> Iterator[str]:
    """Debian's PostgreSQL, for what the embedded one lacks, and as an older version."""
    with debian_postgres() as url:
        yield url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a database without any table, which finds ours by their bare names."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")
        connection.execute("DROP SCHEMA IF EXISTS voting CASCADE; SET search_path = public, voting")
        yield connection


@pytest.fixture(autouse=True)
def new_environment() -> None:
    """Log as an execution environment does that has said nothing yet."""
    sampler.forget()


@pytest.fixture
def settings(redis_url: str, database_url: str) -> Settings:
    return Settings(
        {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "COOKIE_KEYS": "a-key-for-tests-of-32-characters,an-older-key-for-tests-of-32-char",
            "HTTP_URL": "http://127.0.0.1:3000",
            "WEBSOCKET_URL": "ws://127.0.0.1:3001/live",
            "AWS_REGION": "eu-central-1",
            "BROADCAST_FUNCTION": "WsBroadcastFunction",
        }
    )


@pytest.fixture
def clients(settings: Settings) -> Iterator[Clients]:
    """Clients without retries, as the worker has them."""
    clients = Clients(settings, redis_retries=0)
    yield clients
    clients.close()


@pytest.fixture
def handler(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Handler]:
    """Load the handler of a function as Lambda does: from its folder, with its environment."""
    for name, value in settings.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    def load(function: str) -> Handler:
        spec = importlib.util.spec_from_file_location(f"app_of_{function}", ROOT / "functions" / function / "app.py")
        assert spec is not None
        assert spec.loader is not None
        app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(app)
        return app.handler

    return load


@pytest.fixture
def websocket_handler(handler: Callable[[str], Handler]) -> Iterator[Callable[[str], Handler]]:
    """Load the handler of ws_connect or ws_broadcast. What it opens is closed after the test."""
    loaded: list[Any] = []

    def load(function: str) -> Handler:
        loaded.append(handler(function))
        return loaded[-1]

    yield load
    for handle in loaded:
        for part in handle.__wrapped__.__globals__["environment"]():
            part.close()


@pytest.fixture
def api() -> Iterator[ManagementApi]:
    """Where frames are posted to; everybody is there."""
    api = ManagementApi(lambda _id, _posts: 200)
    yield api
    api.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system, for all tests of this run; it must stop cleanly at their end."""
    with running(tmp_path_factory.mktemp("stack") / "state", "--no-reload") as stack:
        yield stack


@pytest.fixture
def fresh(stack: Stack) -> Stack:
    """The whole system, without a vote."""
    stack.empty()
    return stack


@pytest.fixture
def context() -> LambdaContext:
    """What Lambda hands a handler beside the event."""
    deadline_ms = int(time.time() * 1000) + 30_000
    return LambdaContext("8476a536-e9f4-11e8-9739-2dfe598c3fcd", None, {}, deadline_ms, "arn:aws:lambda:…:function:f")


def event(name: str, **changes: Any) -> dict[str, Any]:
    """An event of events/, with *changes* at its top level."""
    return json.loads((ROOT / "events" / f"{name}.json").read_text()) | changes
