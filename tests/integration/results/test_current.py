"""Where the figures of the results come from: the snapshot, or the table.

Covers current and snapshot.
"""

import time
from collections.abc import Iterator

import psycopg
import pytest
from redis import Redis

from voting.clients import Clients
from voting.database.roles import Role, grant
from voting.database.vote_table import VoteTable
from voting.question import Question
from voting.queue.queue_view import HANDED_BACK, PROGRESS, VOTES
from voting.results.current import ResultsUnavailable, read_results
from voting.results.results import PING_S, Results
from voting.results.snapshot import SNAPSHOT, Snapshots
from voting.settings import Settings
from voting.tally import Tally
from voting.vote import Vote

QUESTION = Question.of("", ["Cats", "Dogs"])
NOWHERE = "127.0.0.1:1"


def away(settings: Settings, *names: str) -> Clients:
    urls = {"REDIS_URL": f"redis://{NOWHERE}", "DATABASE_URL": f"postgresql://{NOWHERE}/postgres"}
    return Clients(Settings({**settings.env, **{name: urls[name] for name in names}}))


def make_old(redis: Redis, seconds: int) -> None:
    redis.hincrby(SNAPSHOT, "at", -1000 * seconds)


def test_a_snapshots_version_never_goes_back(redis: Redis) -> None:
    snapshots = Snapshots(redis)
    assert snapshots.read() is None
    assert snapshots.write(Tally(5, {"a": 1})) == (5, 0.0)
    assert snapshots.write(Tally(4, {"a": 9})) == (5, 0.0)
    assert snapshots.read().tally == Tally(5, {"a": 1})
    assert snapshots.write(Tally(6, {"b": 2})) == (6, 0.0)
    assert snapshots.read().tally == Tally(6, {"b": 2})


def test_a_fresh_snapshot_spares_the_database(redis: Redis, settings: Settings) -> None:
    Snapshots(redis).write(Tally(3, {"a": 2}))
    results = read_results(away(settings, "DATABASE_URL"), QUESTION)
    assert (results.version, results.total, results.stale_seconds) == (3, 2, None)


def test_an_old_snapshot_gives_way_to_the_table(
    redis: Redis, database: psycopg.Connection, settings: Settings, clients: Clients
) -> None:
    Snapshots(redis).write(Tally(3, {"a": 2}))
    make_old(redis, 60)
    table = VoteTable(database)
    table.install()
    table.record([Vote("b", "x")], table.take_fence())
    results = read_results(clients, QUESTION)
    assert [option.votes for option in results.options] == [0, 1]
    assert results.stale_seconds is None


def test_without_the_database_the_last_snapshot_tells_its_age(redis: Redis, settings: Settings) -> None:
    Snapshots(redis).write(Tally(3, {"a": 2}))
    make_old(redis, 60)
    assert read_results(away(settings, "DATABASE_URL"), QUESTION).stale_seconds in {60, 61}


def fall_behind(redis: Redis, seconds: int) -> None:
    """As if a vote had waited for so long, and no batch had been committed."""
    redis.lpush(VOTES, Vote("a", "waiting").encode())
    redis.set(PROGRESS, redis.time()[0] * 1000 - seconds * 1000)


@pytest.mark.parametrize(("behind_s", "is_stale"), [(0, False), (4, False), (7, True), (600, True)])
def test_figures_that_lack_votes_are_stale_however_fresh_their_snapshot(
    redis: Redis, settings: Settings, behind_s: int, is_stale: bool
) -> None:
    fall_behind(redis, behind_s)
    Snapshots(redis).write(Tally(3, {"a": 2}))
    stale_s = read_results(away(settings, "DATABASE_URL"), QUESTION).stale_seconds
    assert stale_s in ({behind_s, behind_s + 1} if is_stale else {None})


def test_figures_of_the_table_are_stale_where_votes_wait(
    redis: Redis, database: psycopg.Connection, clients: Clients
) -> None:
    VoteTable(database).install()
    fall_behind(redis, 60)
    assert read_results(clients, QUESTION).stale_seconds in {60, 61}


@pytest.mark.parametrize("why", ["handed back", "nothing waits"])
def test_figures_are_not_stale_where_no_vote_waits_for_us(redis: Redis, settings: Settings, why: str) -> None:
    fall_behind(redis, 60)
    if why == "handed back":
        redis.set(HANDED_BACK, 1)
    else:
        redis.delete(VOTES)
    Snapshots(redis).write(Tally(3, {"a": 2}))
    assert read_results(away(settings, "DATABASE_URL"), QUESTION).stale_seconds is None


@pytest.mark.parametrize("field", ["version", "counts", "at", "behind", "ping_s"])
def test_a_snapshot_that_cannot_be_read_gives_way_to_the_table_and_is_mended(
    redis: Redis, database: psycopg.Connection, clients: Clients, field: str
) -> None:
    VoteTable(database).install()
    Snapshots(redis).write(Tally(3, {"a": 2}))
    redis.hset(SNAPSHOT, field, "abc")
    assert read_results(clients, QUESTION).total == 0
    Snapshots(redis).write(Tally(4, {"a": 3}))
    assert Snapshots(redis).read().tally == Tally(4, {"a": 3})


def test_a_snapshot_confirmed_in_the_future_is_not_fresh(redis: Redis, settings: Settings) -> None:
    Snapshots(redis).write(Tally(3, {"a": 2}))
    make_old(redis, -60)  # Redis' clock was set back since
    assert read_results(away(settings, "DATABASE_URL"), QUESTION).stale_seconds is not None


def test_a_snapshot_of_an_older_version_of_ours_is_read(redis: Redis) -> None:
    now_ms = redis.time()[0] * 1000
    redis.hset(SNAPSHOT, mapping={"version": 5, "counts": '{"a": 1}', "at": now_ms})
    snapshot = Snapshots(redis).read()
    assert (snapshot.tally, snapshot.stale_s, snapshot.ping_s) == (Tally(5, {"a": 1}), None, PING_S)


def test_without_redis_the_table_is_read(database: psycopg.Connection, settings: Settings) -> None:
    table = VoteTable(database)
    table.install()
    table.record([Vote("a", "x")], table.take_fence())
    clients = away(settings, "REDIS_URL")
    assert read_results(clients, QUESTION).total == 1
    clients.close()


def test_before_the_first_run_there_are_zeros(redis: Redis, database: psycopg.Connection, clients: Clients) -> None:
    assert read_results(clients, QUESTION).total == 0


def test_without_both_there_is_nothing_to_show(settings: Settings) -> None:
    with pytest.raises(ResultsUnavailable):
        read_results(away(settings, "REDIS_URL", "DATABASE_URL"), QUESTION)


def test_a_connection_that_died_is_replaced_unnoticed(
    redis: Redis, database: psycopg.Connection, clients: Clients
) -> None:
    VoteTable(database).install()
    read_results(clients, QUESTION)
    pid = clients.postgres().info.backend_pid
    database.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert read_results(clients, QUESTION).stale_seconds is None
    assert clients.postgres().info.backend_pid != pid


def test_a_frozen_database_is_not_waited_for(redis: Redis, database: psycopg.Connection, clients: Clients) -> None:
    table = VoteTable(database)
    table.install()
    clients.postgres()
    with database.transaction():
        database.execute("LOCK TABLE vote_tally IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(ResultsUnavailable):
            read_results(clients, QUESTION)
        assert time.monotonic() - started < 4.0
    assert read_results_soon(clients).total == 0


def read_results_soon(clients: Clients) -> Results:
    """Past the second for which a database that failed is left in peace."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return read_results(clients, QUESTION)
        except ResultsUnavailable:
            assert time.monotonic() < deadline


OLD_TABLE = "CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)"
REMOVE = """
DROP SCHEMA voting CASCADE
"""


@pytest.fixture
def reader(settings: Settings) -> Iterator[Clients]:
    """As the function result has them."""
    clients = Clients(settings, name="voting-result", role=Role.READER)
    yield clients
    clients.close()


def test_votes_without_a_tally_are_not_zero_votes(redis: Redis, database, reader: Clients) -> None:
    database.execute(f"{OLD_TABLE}; INSERT INTO votes VALUES ('x', 'a')")
    with pytest.raises(ResultsUnavailable):
        read_results(reader, QUESTION)


@pytest.mark.parametrize("statements", ["SELECT", OLD_TABLE])
def test_no_votes_yet_are_zeros(redis: Redis, database, reader: Clients, statements: str) -> None:
    database.execute(statements)
    results = read_results(reader, QUESTION)
    assert (results.version, results.total, results.stale_seconds) == (0, 0, None)


def test_a_tally_that_was_removed_is_not_zero_votes_for_a_session_that_may_not_look(
    redis: Redis, database, reader: Clients
) -> None:
    table = VoteTable(database)
    table.install()
    grant(database)
    table.record([Vote("a", "x")], table.take_fence())
    assert read_results(reader, QUESTION).total == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.postgres().execute("SELECT FROM public.votes")
    database.execute(REMOVE)
    with pytest.raises(ResultsUnavailable):
        read_results(reader, QUESTION)
    database.execute("DELETE FROM votes")
    assert read_results(reader, QUESTION).total == 0


def test_a_login_that_may_not_look_at_the_votes_shows_no_zeros(
    redis: Redis, database, settings: Settings, database_url: str
) -> None:
    database.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD 'strange'")
    database.execute(OLD_TABLE)
    url = psycopg.conninfo.conninfo_to_dict(database_url)
    theirs = f"postgresql://stranger:strange@{url['host']}:{url['port']}/{url['dbname']}"
    clients = Clients(Settings({**settings.env, "DATABASE_URL": theirs}), role=Role.READER)
    try:
        with pytest.raises(ResultsUnavailable):
            read_results(clients, QUESTION)
    finally:
        clients.close()
        database.execute("DROP OWNED BY stranger; DROP ROLE stranger")


def test_an_old_snapshot_is_better_than_votes_without_a_tally(redis: Redis, database, reader: Clients) -> None:
    database.execute(f"{OLD_TABLE}; INSERT INTO votes VALUES ('x', 'a')")
    Snapshots(redis).write(Tally(3, {"a": 2}))
    make_old(redis, 60)
    results = read_results(reader, QUESTION)
    assert (results.version, results.total) == (3, 2)
    assert results.stale_seconds >= 60
