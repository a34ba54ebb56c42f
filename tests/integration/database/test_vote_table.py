"""The table of votes, its fence and its triggers, on real servers: covers vote_table, installation and rows."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.stack import wait_for
from voting.clients import Clients
from voting.database.rows import WORTH_COPYING
from voting.database.vote_table import VoteTable
from voting.fence import Superseded
from voting.vote import Vote

OLD_TABLE = "CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)"


@pytest.fixture
def table(database: psycopg.Connection, clients: Clients) -> VoteTable:
    table = VoteTable(clients.postgres())
    table.install()
    return table


def grouped(database: psycopg.Connection) -> dict[str, int]:
    return dict(database.execute("SELECT vote, count(*) FROM votes GROUP BY vote").fetchall())


def agrees(table: VoteTable, database: psycopg.Connection) -> bool:
    return dict(table.tally().counts) == grouped(database)


def test_the_table_is_the_contracts(table: VoteTable, database: psycopg.Connection) -> None:
    columns = database.execute(
        "SELECT column_name, data_type, character_maximum_length, is_nullable FROM information_schema.columns "
        "WHERE table_name = 'votes' ORDER BY ordinal_position"
    ).fetchall()
    assert columns == [("id", "character varying", 255, "NO"), ("vote", "character varying", 255, "NO")]
    indexes = dict(database.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'votes'").fetchall())
    assert indexes["idx_votes_id"].endswith("UNIQUE INDEX idx_votes_id ON public.votes USING btree (id)")
    assert indexes["idx_votes_vote"].endswith("INDEX idx_votes_vote ON public.votes USING btree (vote)")


def test_an_installation_is_made_once(table: VoteTable) -> None:
    assert table.install() is False


def test_a_table_that_the_old_worker_filled_is_counted_and_not_altered(
    database: psycopg.Connection, clients: Clients
) -> None:
    database.execute(OLD_TABLE)
    database.execute("INSERT INTO votes VALUES ('x', 'a'), ('y', 'b'), ('z', 'b')")
    table = VoteTable(clients.postgres())
    assert table.install() is True
    assert dict(table.tally().counts) == {"a": 1, "b": 2}
    names = database.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'votes'").fetchall()
    assert names == [("votes_id_key",)]


def test_two_first_runs_at_once_install_once(database: psycopg.Connection, settings) -> None:
    installed = []

    def install() -> None:
        clients = Clients(settings)
        installed.append(VoteTable(clients.postgres()).install())
        clients.close()

    runs = [threading.Thread(target=install) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(installed) == 4
    assert database.execute("SELECT count(*) FROM vote_tally_version").fetchone() == (1,)


def test_the_last_choice_of_each_voter_is_stored(table: VoteTable, database: psycopg.Connection) -> None:
    token = table.take_fence()
    votes = [Vote("a", "x"), Vote("b", "y"), Vote("b", "x"), Vote("a", "x")]
    assert table.record(votes, token) == 2
    assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == {"x": "a", "y": "b"}
    assert dict(table.tally().counts) == {"a": 1, "b": 1}


def test_a_replayed_batch_changes_nothing(table: VoteTable) -> None:
    token = table.take_fence()
    table.record([Vote("a", "x")], token)
    before = table.tally()
    assert table.record([Vote("a", "x")], token) == 0
    assert table.tally() == before


@pytest.mark.parametrize(
    "odd",
    [["\x01", "é", "😀", "'", '"', "NULL", " ", ","], ["\\."], ["\\N"], ["\\"], ["a\tb"], ["a\nb"], ["a\r"]],
    ids=["as they are", "an end", "null", "backslash", "tab", "newline", "return"],
)
def test_many_votes_are_stored_as_few_are(table: VoteTable, database: psycopg.Connection, odd: list[str]) -> None:
    token = table.take_fence()
    ids = odd + [f"voter{number}" for number in range(WORTH_COPYING * 2)]
    expected = {id_: "ab"[number % 2] for number, id_ in enumerate(ids[::2])} | {"chooser": odd[0]}
    assert table.record([Vote(choice, id_) for id_, choice in expected.items()], token) == len(expected)

    votes = [Vote("ab"[number % 3 == 0], id_) for number, id_ in enumerate(ids)]
    changes = {vote.voter_id: vote.choice for vote in votes if expected.get(vote.voter_id) != vote.choice}
    before = table.tally().version
    assert table.record(votes, token) == len(changes)
    expected |= changes
    assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == expected
    assert agrees(table, database)
    assert table.tally().version > before

    settled = table.tally()
    assert table.record(votes, token) == 0
    assert table.tally() == settled


@pytest.mark.parametrize("voters", [1, WORTH_COPYING])
def test_what_is_to_be_done_meanwhile_is_done_once(table: VoteTable, voters: int) -> None:
    calls: list[int] = []
    votes = [Vote("a", f"voter{number}") for number in range(voters)]
    table.record(votes, table.take_fence(), lambda: calls.append(1))
    assert len(calls) == 1


def test_an_older_run_is_refused_many_votes(table: VoteTable, database: psycopg.Connection) -> None:
    older, _ = table.take_fence(), table.take_fence()
    with pytest.raises(Superseded):
        table.record([Vote("a", f"voter{number}") for number in range(WORTH_COPYING)], older)
    assert grouped(database) == {}


def test_a_writer_past_the_triggers_makes_no_vote_fail(
    table: VoteTable, database: psycopg.Connection, database_url: str
) -> None:
    token = table.take_fence()
    votes = [Vote("a", f"voter{number}") for number in range(WORTH_COPYING)]
    database.execute("ALTER TABLE votes DISABLE TRIGGER USER")
    recorded: list[int] = []
    with psycopg.connect(database_url) as other:
        other.execute("INSERT INTO votes VALUES ('voter7', 'b')")
        run = threading.Thread(target=lambda: recorded.append(table.record(votes, token)))
        run.start()
        deadline = time.monotonic() + 20
        while not other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:
            assert time.monotonic() < deadline
        other.commit()
        run.join()
    assert recorded == [WORTH_COPYING]
    assert grouped(database) == {"a": WORTH_COPYING}


def test_an_older_run_is_refused(table: VoteTable, database: psycopg.Connection) -> None:
    older, newer = table.take_fence(), table.take_fence()
    assert newer > older
    with pytest.raises(Superseded):
        table.record([Vote("a", "x")], older)
    assert grouped(database) == {}
    assert table.record([Vote("a", "x")], newer) == 1


def test_a_token_outgrows_what_redis_has_seen(table: VoteTable) -> None:
    assert table.take_fence(at_least=41) == 42
    assert table.take_fence() == 43


def test_an_id_that_postgres_sorts_otherwise_is_stored(table: VoteTable) -> None:
    ids = ["é", "e", "E", "😀", "a b", "'", '"', "{}", "NULL", "\\", "ü" * 255]
    assert table.record([Vote("a", id_) for id_ in ids], table.take_fence()) == len(ids)
    assert table.tally().counts == {"a": len(ids)}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO votes VALUES ('n', 'a')",
        "INSERT INTO votes VALUES ('n', 'c'), ('m', 'c')",
        "UPDATE votes SET vote = 'b'",
        "UPDATE votes SET vote = CASE vote WHEN 'a' THEN 'b' ELSE 'a' END",
        "UPDATE votes SET id = id || '!'",
        "DELETE FROM votes WHERE vote = 'a'",
        "DELETE FROM votes",
        "TRUNCATE votes",
        "INSERT INTO votes VALUES ('x', 'b'), ('n', 'b') ON CONFLICT (id) DO UPDATE SET vote = EXCLUDED.vote",
    ],
)
def test_the_tally_follows_whoever_writes(table: VoteTable, database: psycopg.Connection, statement: str) -> None:
    table.record([Vote("a", "x"), Vote("a", "y"), Vote("b", "z")], table.take_fence())
    before = table.tally()
    database.execute(statement)
    assert agrees(table, database)
    moved = dict(table.tally().counts) != dict(before.counts)
    assert (table.tally().version > before.version) is moved


def test_a_rolled_back_write_leaves_no_trace(table: VoteTable, database: psycopg.Connection) -> None:
    before = table.tally()
    with database.transaction(force_rollback=True):
        database.execute("INSERT INTO votes VALUES ('x', 'a')")
    assert table.tally() == before


def test_a_role_that_may_only_write_votes_is_counted(
    table: VoteTable, database: psycopg.Connection, database_url: str
) -> None:
    database.execute("DROP ROLE IF EXISTS old_worker; CREATE ROLE old_worker LOGIN PASSWORD 'old'")
    database.execute("GRANT SELECT, INSERT, UPDATE ON votes TO old_worker")
    try:
        conninfo = psycopg.conninfo.make_conninfo(database_url, user="old_worker", password="old")
        with psycopg.connect(conninfo, autocommit=True) as old:
            old.execute("INSERT INTO votes VALUES ('x', 'a')")
            old.execute("UPDATE votes SET vote = 'b' WHERE id = 'x'")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                old.execute("UPDATE voting.vote_tally SET votes = 0")
        assert table.tally().counts == {"b": 1}
    finally:
        database.execute("DROP OWNED BY old_worker; DROP ROLE old_worker")


def test_an_installation_waits_for_writers_and_counts_what_they_wrote(
    database: psycopg.Connection, clients: Clients, database_url: str
) -> None:
    database.execute(OLD_TABLE)
    stop = threading.Event()
    written: Counter[str] = Counter()

    def write() -> None:
        with psycopg.connect(database_url, autocommit=True) as old:
            while not stop.is_set():
                choice = "ab"[written.total() % 2]
                old.execute("INSERT INTO votes VALUES (%s, %s)", (f"old{written.total()}", choice))
                written[choice] += 1

    writer = threading.Thread(target=write)
    writer.start()
    while written.total() < 50:
        assert writer.is_alive()
    table = VoteTable(clients.postgres())
    table.install()
    counted = written.total()
    while written.total() < counted + 50:
        assert writer.is_alive()
    stop.set()
    writer.join()
    assert dict(table.tally().counts) == dict(written) == grouped(database)


def test_writers_in_other_orders_do_not_deadlock(table: VoteTable, database_url: str) -> None:
    """Row locks taken before the tally's lock would: the BEFORE trigger takes the tally's lock first."""
    failures: list[Exception] = []

    def write(ids: list[str], choice: str) -> None:
        try:
            with psycopg.connect(database_url, autocommit=True) as other:
                for _ in range(60):
                    for id_ in ids:
                        other.execute(
                            "INSERT INTO votes VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET vote = EXCLUDED.vote",
                            (id_, choice),
                        )
        except psycopg.Error as error:
            failures.append(error)

    ids = [f"v{i}" for i in range(10)]
    writers = [
        threading.Thread(target=write, args=(ids, "a")),
        threading.Thread(target=write, args=(ids[::-1], "b")),
    ]
    token = table.take_fence()
    for writer in writers:
        writer.start()
    for round_ in range(60):
        table.record([Vote("ab"[round_ % 2], id_) for id_ in ids], token)
    for writer in writers:
        writer.join()
    assert failures == []
    assert table.tally().counts.keys() <= {"a", "b"}
    assert sum(table.tally().counts.values()) == 10


def test_versions_outgrow_those_of_a_database_that_was_replaced(table: VoteTable) -> None:
    far = 9_999_999_999_999
    table.outgrow(far)
    assert table.tally().version == far + 1


def test_a_hijacked_search_path_does_not_mislead_the_triggers(table: VoteTable, database: psycopg.Connection) -> None:
    database.execute("CREATE SCHEMA trap; CREATE TABLE trap.vote_tally (vote text PRIMARY KEY, votes bigint)")
    try:
        database.execute("SET search_path = trap, public")
        database.execute("INSERT INTO public.votes VALUES ('x', 'a')")
        assert database.execute("SELECT count(*) FROM trap.vote_tally").fetchone() == (0,)
        assert table.tally().counts == {"a": 1}
    finally:
        database.execute("RESET search_path; DROP SCHEMA trap CASCADE")


def test_a_large_table_may_take_longer_to_count_than_a_statement_does_otherwise(
    database: psycopg.Connection, database_url: str
) -> None:
    database.execute("SELECT pg_advisory_lock(hashtext('voting schema'))")  # in place of a count that takes so long
    with psycopg.connect(database_url, autocommit=True) as slow, ThreadPoolExecutor(1) as beside:
        slow.execute("SET statement_timeout = 500")
        installing = beside.submit(VoteTable(slow).install)
        waits = """
            SELECT true FROM pg_stat_activity
            WHERE pid = %s AND wait_event = 'advisory' AND clock_timestamp() - query_start > interval '1 second'
        """
        wait_for(
            lambda: installing.done() or database.execute(waits, (slow.info.backend_pid,)).fetchone(), "twice as long"
        )
        database.execute("SELECT pg_advisory_unlock_all()")
        assert installing.result()
