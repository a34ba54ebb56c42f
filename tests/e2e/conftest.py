"""What end-to-end tests share: the running system without a vote, and clients of it that are none of ours."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import psycopg
import pytest
from redis import Redis

from tests.e2e.subscriber import Subscriber
from tests.stack import Stack


@pytest.fixture
def http(fresh: Stack) -> Iterator[httpx.Client]:
    """A client with a cookie jar, hence one voter."""
    with httpx.Client(base_url=fresh.http, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def redis(fresh: Stack) -> Iterator[Redis]:
    """The list of the system under test, not of the integration tests."""
    with Redis.from_url(fresh.redis, decode_responses=True) as client:
        yield client


@pytest.fixture
def database(fresh: Stack) -> Iterator[psycopg.Connection]:
    """The table of the system under test, not of the integration tests."""
    with psycopg.connect(fresh.postgres, autocommit=True) as connection:
        yield connection


@pytest.fixture
def subscribe(fresh: Stack) -> Iterator[Callable[[], Subscriber]]:
    """Open subscribers that have had their first snapshot; they are closed after the test."""
    with ExitStack() as closing:

        def subscribe() -> Subscriber:
            subscriber = closing.enter_context(Subscriber(fresh.websocket))
            subscriber.send("subscribe")
            subscriber.until(lambda _: True, "the first snapshot")
            return subscriber

        yield subscribe


@pytest.fixture
def say(pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a measurement past pytest's capturing."""
    terminal = pytestconfig.get_terminal_writer()

    def say(text: str) -> None:
        with capsys.disabled():
            terminal.write(f"\n  {text}\n", flush=True)

    return say
