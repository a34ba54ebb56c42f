"""The stores as the container voting app left them, with a role for its worker that may write `votes` and no more."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from redis import Redis

from tests.migration.old_design import OldWorker
from tests.stack import wait_for
from voting.clients import Clients
from voting.settings import Settings
from voting.worker.drain import STOP_BEFORE_END_S, Counted, Drain

# As the old worker made it at its first start.
OLD_TABLE = """
CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL);
CREATE UNIQUE INDEX idx_votes_id ON votes(id);
CREATE INDEX idx_votes_vote ON votes(vote);
"""
DROP_ROLE = "DROP OWNED BY container_worker; DROP ROLE container_worker"


@pytest.fixture
def old_database_url(database: psycopg.Connection, database_url: str) -> Iterator[str]:
    """The table of the old design, and the address by which its worker's role reaches it."""
    database.execute(OLD_TABLE)
    if database.execute("SELECT 1 FROM pg_roles WHERE rolname = 'container_worker'").fetchone():
        database.execute(DROP_ROLE)
    database.execute("CREATE ROLE container_worker LOGIN PASSWORD 'container'")
    database.execute("GRANT SELECT, INSERT, UPDATE ON votes TO container_worker")
    yield psycopg.conninfo.make_conninfo(database_url, user="container_worker", password="container")
    database.execute(DROP_ROLE)


@pytest.fixture
def old_worker(redis: Redis, redis_url: str, old_database_url: str) -> Callable[[], OldWorker]:
    """Make an old worker; it starts to drain as a context manager."""
    assert redis.ping()
    return lambda: OldWorker(redis_url, old_database_url)


@pytest.fixture
def our_worker(redis: Redis, settings: Settings):
    """Let our worker drain: run after run, as its schedule starts them, until the end of the block."""

    @contextmanager
    def drain() -> Iterator[list[Counted]]:
        over = threading.Event()
        runs: list[Counted] = []
        failures: list[Exception] = []

        def run() -> None:
            clients = Clients(settings, redis_retries=0)
            try:
                while not over.is_set():
                    clock = lambda: 0.0 if over.is_set() else STOP_BEFORE_END_S + 1  # noqa: E731
                    runs.append(Drain(clients, clock, lambda: None).run())
                    over.wait(0.2)  # for the next tick, where the run ended because the draining is handed back
            except Exception as error:  # noqa: BLE001 - raised again at the end of the block
                failures.append(error)
            clients.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield runs
        finally:
            over.set()
            thread.join()
        assert not failures, failures

    return drain


@pytest.fixture
def drained(redis: Redis) -> Callable[[], None]:
    """Wait until nothing is queued or in process."""

    def wait() -> None:
        wait_for(lambda: redis.llen("votes") + redis.llen("{votes}:processing") == 0, "the list to be drained")

    return wait
