"""Stores and clients that tests of every kind share. The stores are real, and belong to this test run alone."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from redis import Redis

from local.postgres import Postgres
from local.state import StateDir
from local.stores import Store
from local.valkey import Valkey
from voting.clients import Clients
from voting.settings import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="let the browser tests renew docs/images/*.png")


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


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a database without any table."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")
        yield connection


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
