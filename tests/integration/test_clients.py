import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from redis import Redis

from voting.clients import READERS, Clients
from voting.health import Health, check_health
from voting.live_results import read_results
from voting.results import Tally
from voting.roles import Role
from voting.settings import Settings
from voting.snapshot import SNAPSHOT, Snapshots
from voting.tally import VoteTable

LABELS = {"a": "Cats", "b": "Dogs"}


@pytest.fixture
def reader(settings: Settings, database: psycopg.Connection) -> Iterator[Callable[..., Clients]]:
    """Make read-only clients, each as one execution environment has them."""
    VoteTable(database).install()
    with ExitStack() as closing:

        def reader(name: str = "voting-result") -> Clients:
            clients = Clients(settings, name=name, role=Role.READER)
            closing.callback(clients.close)
            return clients

        yield reader


def opened(database: psycopg.Connection, name: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    (count,) = database.execute(query, (name,)).fetchone()
    return count


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO votes VALUES ('x', 'a')",
        "UPDATE vote_tally_version SET version = 1",
        "TRUNCATE votes",
        "CREATE TABLE more (x int)",
    ],
)
def test_a_read_only_session_cannot_write(reader, statement: str) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader().postgres().execute(statement)


def test_a_session_says_whose_it_is(reader, database) -> None:
    reader("voting-someone").postgres()
    assert opened(database, "voting-someone") == 1


def test_the_session_after_the_last_slot_is_refused_and_does_not_stay_open(reader, database, clients) -> None:
    readers = [reader() for _ in range(READERS + 1)]
    for first in readers[:READERS]:
        first.postgres()
    with pytest.raises(psycopg.OperationalError, match="no slot"):
        readers[READERS].postgres()
    deadline = time.monotonic() + 10
    while opened(database, "voting-result") > READERS:
        assert time.monotonic() < deadline
    assert reader("voting-ws_connect").postgres()  # another function has slots of its own
    assert clients.postgres()  # and the worker needs none


def test_a_slot_is_free_again_after_its_session(reader, database) -> None:
    readers = [reader() for _ in range(READERS)]
    for clients in readers:
        clients.postgres()
    readers[7].close()
    deadline = time.monotonic() + 10
    while opened(database, "voting-result") == READERS:
        assert time.monotonic() < deadline
    assert reader().postgres()


def test_without_a_slot_the_last_known_results_are_shown_as_stale(reader, redis: Redis) -> None:
    for _ in range(READERS):
        reader().postgres()
    Snapshots(redis).write(Tally(17, {"a": 1}))
    redis.hincrby(SNAPSHOT, "at", -60_000)
    results = read_results(reader(), LABELS)
    assert (results.version, results.total) == (17, 1)
    assert results.stale_seconds >= 60


def test_without_a_slot_the_database_is_well(reader, redis: Redis) -> None:
    for _ in range(READERS):
        reader().postgres()
    assert check_health(reader()) == Health(redis=True, postgres=True)


def test_an_idle_session_that_the_server_ended_is_opened_anew(reader, database) -> None:
    clients = reader()
    clients.postgres().execute("SET idle_session_timeout = 1")
    deadline = time.monotonic() + 10
    while opened(database, "voting-result"):
        assert time.monotonic() < deadline
    assert clients.on_postgres(lambda connection: VoteTable(connection).tally()).counts == {}
