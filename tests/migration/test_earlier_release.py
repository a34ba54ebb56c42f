"""From a release whose tables were in the schema of `votes` to this one, back, and both at once."""

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from tests.migration.earlier_release import EarlierRelease
from tests.stack import wait_for
from voting.clients import Clients
from voting.database.comparison import compare
from voting.database.installation import MayNotInstall
from voting.database.roles import Role, create, grant
from voting.database.vote_table import VoteTable
from voting.fence import Superseded
from voting.ops.preflight.inspect import inspect
from voting.question import Question
from voting.results.snapshot import SNAPSHOT, Snapshots
from voting.settings import Settings
from voting.tally import Tally
from voting.vote import CHOICES, Vote

ANOTHER_TABLE = """
CREATE TABLE other (LIKE votes); ALTER TABLE votes RENAME TO before; ALTER TABLE other RENAME TO votes;
ALTER TABLE votes ADD UNIQUE (id)
"""
OURS = ("vote_tally", "vote_tally_version", "vote_worker_fence")


@pytest.fixture
def earlier(database: psycopg.Connection, database_url: str) -> Iterator[EarlierRelease]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield EarlierRelease(connection)


@pytest.fixture
def table(clients: Clients, database) -> VoteTable:
    return VoteTable(clients.postgres())


def assert_right(table: VoteTable, earlier: EarlierRelease) -> None:
    """Both see the same tally, which is what the rows are."""
    tally = table.tally()
    assert tally.counts == table.count()
    assert earlier.tally() == (tally.version, tally.counts)
    assert table.missing_triggers() == frozenset()


def test_an_earlier_installation_moves_with_what_it_holds(earlier: EarlierRelease, table: VoteTable, database) -> None:
    earlier.install()
    token = earlier.take_fence(41)
    earlier.record({"x": "a", "y": "b"}, token)
    database.execute("UPDATE public.vote_tally SET votes = 7 WHERE vote = 'b'")  # to see that it is not counted again
    version, counts = earlier.tally()
    assert table.install() is True
    assert table.install() is False
    assert table.fence() == token
    assert (table.tally().version, table.tally().counts) == (version, counts)
    assert compare(database)  # as the run does next
    assert table.tally().version > version
    assert_right(table, earlier)
    assert table.take_fence() == token + 1


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE votes DISABLE TRIGGER USER; INSERT INTO votes VALUES ('z', 'b')",
        "DROP TABLE vote_worker_fence",
        "DROP TABLE vote_tally CASCADE",
        "TRUNCATE vote_tally, vote_tally_version, vote_worker_fence",
        "ALTER TABLE vote_worker_fence DROP COLUMN compared_shape, DROP COLUMN compared_at",
        ANOTHER_TABLE,
    ],
    ids=["disabled", "no fence", "no tally", "truncated", "older still", "another table"],
)
def test_an_earlier_installation_that_is_damaged_is_counted(
    earlier: EarlierRelease, table: VoteTable, database, statement: str
) -> None:
    earlier.install()
    earlier.record({"x": "a", "y": "b"}, earlier.take_fence())
    version, _ = earlier.tally()
    database.execute("SET search_path = public")
    database.execute(statement)
    table.install()
    compare(database)
    assert_right(table, earlier)
    assert table.tally().version >= version
    table.record([Vote("b", "x"), Vote("b", "new")], table.take_fence())
    assert_right(table, earlier)


def test_the_earlier_release_may_run_again_and_this_one_after_it(earlier: EarlierRelease, table: VoteTable) -> None:
    earlier.install()
    earlier.record({"x": "a"}, earlier.take_fence())
    version, token = 0, 0
    for number in range(3):
        table.install()
        assert_right(table, earlier)
        now = table.take_fence()
        assert now > token
        table.record([Vote("b", f"ours{number}"), Vote("ab"[number % 2], "x")], now)
        assert_right(table, earlier)
        assert table.tally().version > version

        assert earlier.install() is False
        token = earlier.take_fence()
        assert token > now
        earlier.record({f"theirs{number}": "a"}, token)
        earlier.compare()
        assert_right(table, earlier)
        version = table.tally().version


def test_runs_of_both_have_one_fence(earlier: EarlierRelease, table: VoteTable) -> None:
    """As in a canary: a run is superseded by the next one, of whichever release."""
    earlier.install()
    theirs = earlier.take_fence()
    table.install()
    assert earlier.record({"x": "a"}, theirs)  # until a run of ours begins
    ours = table.take_fence()
    assert not earlier.record({"x": "b"}, theirs)
    table.record([Vote("b", "y")], ours)
    theirs = earlier.take_fence()
    with pytest.raises(Superseded):
        table.record([Vote("a", "y")], ours)
    assert earlier.record({"z": "a"}, theirs)
    assert_right(table, earlier)


def test_a_batch_of_the_earlier_release_that_is_under_way_is_waited_for(
    earlier: EarlierRelease, table: VoteTable, database
) -> None:
    """It holds the fence, then writes the rows: in another order the two would deadlock."""
    earlier.install()
    token = earlier.take_fence()
    with earlier.connection.transaction():
        earlier.connection.execute("SELECT token FROM vote_worker_fence FOR UPDATE")
        installing = threading.Thread(target=table.install)
        installing.start()
        wait_for(
            lambda: database.execute("SELECT true FROM pg_locks WHERE NOT granted").fetchone(),
            "the installation to wait",
        )
        earlier.connection.execute("INSERT INTO votes VALUES ('x', 'a')")
    installing.join()
    assert earlier.record({"y": "b"}, token)
    assert_right(table, earlier)


def test_an_earlier_release_that_installs_after_this_one_is_taken_over(
    earlier: EarlierRelease, table: VoteTable, database
) -> None:
    """It was deployed and never ran: there was nothing of it to leave views for."""
    table.install()
    ours = table.take_fence(90)
    table.record([Vote("a", "x"), Vote("b", "y")], ours)
    version = table.tally().version
    assert earlier.install() is True  # its triggers are in the place of ours
    assert not table.follows()
    theirs = earlier.take_fence(ours)
    assert earlier.record({"z": "b", "x": "b"}, theirs)
    assert table.install() is True
    assert_right(table, earlier)
    assert table.tally().version > version
    assert table.take_fence() == theirs + 1
    assert earlier.install() is False


def test_whoever_might_read_the_tables_still_may(
    earlier: EarlierRelease, table: VoteTable, database, database_url: str
) -> None:
    earlier.install()
    earlier.record({"x": "a"}, earlier.take_fence())
    database.execute("DROP ROLE IF EXISTS chart; CREATE ROLE chart LOGIN PASSWORD 'chart'")
    try:
        for name in OURS:
            database.execute(f"GRANT SELECT ON public.{name} TO chart")
        database.execute(
            "CREATE VIEW public.charted AS SELECT * FROM public.vote_tally; GRANT SELECT ON charted TO chart"
        )
        table.install()
        grant(database)
        with psycopg.connect(psycopg.conninfo.make_conninfo(database_url, user="chart", password="chart")) as chart:
            assert EarlierRelease(chart).tally()[1] == {"a": 1}
            assert chart.execute("SELECT votes FROM charted").fetchone() == (1,)
        with psycopg.connect(database_url, autocommit=True) as reader:
            reader.execute(f"SET ROLE {Role.READER}")
            assert VoteTable(reader).tally().counts == {"a": 1}
    finally:
        database.execute("DROP OWNED BY chart; DROP ROLE chart")


def test_a_login_that_may_not_move_the_tables_is_told_who_may(
    earlier: EarlierRelease, settings: Settings, redis: Redis, database, database_url: str
) -> None:
    """A schema made for it would not help, and be in the way of the login that may."""
    earlier.install()
    earlier.record({"x": "a"}, earlier.take_fence())
    grant_as_before(database)
    database.execute(
        "CREATE ROLE voting_app LOGIN PASSWORD 'app' IN ROLE voting_worker, voting_reader, voting_operator"
    )
    url = urlsplit(database_url)
    address = url._replace(netloc=f"voting_app:app@{url.hostname}:{url.port}").geturl()
    app = Clients(Settings({**settings.env, "DATABASE_URL": address}), redis_retries=0, role=Role.WORKER)
    try:
        with pytest.raises(MayNotInstall, match="belong to postgres") as refused:
            VoteTable(app.postgres()).install()
        assert "CREATE SCHEMA" not in str(refused.value)
        problems = {one.what: one.todo for one in inspect(app, watch_s=0.1) if one.level == "problem"}
        assert list(problems) == ["tables of an earlier release belong to postgres"]
        VoteTable(database).install()  # as it says
        grant(database)
        app.forget_postgres()
        table = VoteTable(app.postgres())
        assert table.record([Vote("b", "y")], table.take_fence()) == 1
        assert_right(table, earlier)
        assert not [one for one in inspect(app, watch_s=0.1) if one.level == "problem"]
    finally:
        app.close()
        database.execute("DROP OWNED BY voting_app; DROP ROLE voting_app")


# ---------------------------------------------------------------- more than two options


def test_the_tally_of_the_earlier_release_counts_every_option(earlier: EarlierRelease, table: VoteTable) -> None:
    earlier.install()
    earlier.record({choice: choice for choice in CHOICES}, earlier.take_fence())
    assert earlier.tally()[1] == dict.fromkeys(CHOICES, 1)
    table.install()
    table.record([Vote("t", choice) for choice in CHOICES], table.take_fence())
    assert table.tally().counts == {"t": 20}
    assert_right(table, earlier)


def test_a_snapshot_of_either_release_is_read_by_the_other(redis: Redis) -> None:
    """As while a deployment with more options goes over them."""
    two, three = Question.of("", ["Cats", "Dogs"]), Question.of("Pets?", ["Cats", "Dogs", "Birds"])
    now_ms = int(redis.time()[0]) * 1000
    redis.hset(
        SNAPSHOT,
        mapping={"version": 7, "counts": '{"a":1,"b":2}', "at": now_ms, "behind": 0, "ping_s": 20},  # as it wrote it
    )
    snapshot = Snapshots(redis).read()
    assert snapshot is not None
    assert [option.votes for option in snapshot.results(three).options] == [1, 2, 0]
    Snapshots(redis).write(Tally(8, {"a": 1, "b": 2, "c": 3}))
    version, counts = redis.hmget(SNAPSHOT, "version", "counts")
    assert (version, counts) == (b"8", b'{"a":1,"b":2,"c":3}')  # of which it shows the first two
    snapshot = Snapshots(redis).read()
    assert snapshot is not None
    assert (snapshot.results(two).total, snapshot.results(three).total) == (3, 6)
    Snapshots(redis).write(Tally(9, {"a": 1, "b": 2}))
    assert redis.hget(SNAPSHOT, "counts") == b'{"a":1,"b":2}'


def grant_as_before(database: psycopg.Connection) -> None:
    """What the earlier release granted to the roles; these may be there."""
    create(database)
    database.execute("GRANT USAGE ON SCHEMA public TO voting_reader, voting_worker, voting_operator")
    database.execute("GRANT SELECT, INSERT, UPDATE ON votes TO voting_worker; GRANT SELECT ON votes TO voting_operator")
    for table in OURS:
        database.execute(f"GRANT SELECT, UPDATE ON {table} TO voting_worker, voting_operator")
