"""What becomes of votes that Postgres refuses: one of them, some, or all. Covers sieve, batch_writer and trial."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.integration.worker.test_drain import WAIT_S, empty, ends_when, rows
from voting.clients import Clients
from voting.database.rows import WORTH_COPYING
from voting.database.vote_table import VoteTable
from voting.queue.queue_view import DEAD, PROCESSING, TROUBLE, VOTES
from voting.queue.trouble import read_trouble
from voting.settings import Settings
from voting.vote import Vote
from voting.worker.drain import Drain, RunFailed

PATIENCE_S = 0.2
OLD_TABLE = "CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)"
EVERYTHING = "CREATE PUBLICATION everything FOR ALL TABLES"
ALTER = "ALTER TABLE votes REPLICA IDENTITY USING INDEX idx_votes_id"
# A stranger's trigger: %(when)s is a condition on NEW.
RAISE = """
CREATE OR REPLACE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF {when} THEN RAISE EXCEPTION 'no % here', NEW.id USING ERRCODE = '{code}', DETAIL = NEW.id; END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER picky BEFORE INSERT OR UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION picky()
"""
Run = Callable[..., Any]


@pytest.fixture
def drain(redis: Redis, database: psycopg.Connection, settings: Settings) -> Iterator[Run]:
    """Run a worker until a condition holds."""
    opened: list[Clients] = []

    def run(until: Callable[[], bool], *, timeout_ms: int = 15_000, within_s: float = 30.0, **env: str):
        clients = Clients(Settings({**settings.env, **env}), redis_retries=0, statement_timeout_ms=timeout_ms)
        opened.append(clients)
        ends = ends_when(until, within_s)
        return Drain(clients, ends, lambda: None, patience_s=PATIENCE_S, wait_s=WAIT_S).run()

    yield run
    for clients in opened:
        clients.close()


@pytest.fixture
def published(database: psycopg.Connection) -> Iterator[None]:
    """Drop the publications that a test makes, which outlive their table."""
    yield
    for (name,) in database.execute("SELECT pubname FROM pg_publication").fetchall():
        database.execute(f"DROP PUBLICATION {name}")


def push(redis: Redis, *ids: str, choice: str = "a") -> None:
    redis.lpush(VOTES, *(Vote(choice, id_).encode() for id_ in ids))


def letters(redis: Redis) -> list[dict[str, Any]]:
    return [json.loads(letter) for letter in redis.lrange(DEAD, 0, -1)]


def parked(redis: Redis) -> list[tuple[str, str | None]]:
    """Voter and SQLSTATE of each refused vote."""
    found = letters(redis)
    assert {letter["reason"] for letter in found} <= {"refused_by_database"}
    return [(json.loads(letter["payload"])["voter_id"], letter.get("sqlstate")) for letter in found]


def waiting(redis: Redis) -> list[str]:
    """The voters of all messages that are queued or in process, oldest first."""
    messages = [*reversed(redis.lrange(PROCESSING, 0, -1)), *reversed(redis.lrange(VOTES, 0, -1))]
    return [json.loads(message)["voter_id"] for message in messages]


def refuse(database: psycopg.Connection, when: str, code: str = "P0001") -> None:
    VoteTable(database).install()
    database.execute(RAISE.format(when=when, code=code))


REFUSALS = [
    *("P0001", "22P02", "22012", "23514", "23503", "23P01", "21000", "0A000", "42P10", "42703", "42804", "55000"),
    *("02000", "XX000", "XX001", "F0000", "HV000", "P0004", "42501", "42P01", "ZZ123"),
]
PRETENCES = ["08006", "53100", "53300", "57014", "57P01", "57P03", "25006", "25P02", "55P03", "40001", "40P01", "58030"]


@pytest.mark.parametrize("code", REFUSALS + PRETENCES)
def test_one_refused_vote_is_parked_with_its_sqlstate_and_the_others_are_stored(drain, redis, database, code) -> None:
    refuse(database, "NEW.id = 'bad'", code)
    ids = [f"v{number}" for number in range(40)]
    push(redis, *ids[:23], "bad", *ids[23:])
    drain(empty(redis))
    assert rows(database) == dict.fromkeys(ids, "a")
    assert parked(redis) == [("bad", code)]


@pytest.mark.parametrize("code", REFUSALS[:5] + PRETENCES[:3])
def test_a_refused_vote_is_parked_though_nothing_else_waits(drain, redis, database, code) -> None:
    refuse(database, "NEW.id LIKE 'bad%'", code)
    push(redis, "bad1", "bad2")
    drain(empty(redis))
    assert parked(redis) == [("bad1", code), ("bad2", code)]


def test_many_refused_voters_in_a_row_hold_up_nobody(drain, redis, database) -> None:
    refuse(database, "NEW.id LIKE 'bad%'")
    bad = [f"bad{number}" for number in range(50)]
    push(redis, "one", *bad, "two")
    redis.lpush(VOTES, b"junk")
    push(redis, "bad", "three")
    drain(empty(redis))
    assert rows(database) == dict.fromkeys(["one", "two", "three"], "a")
    reasons = [letter["reason"] for letter in letters(redis)]
    assert reasons == ["refused_by_database"] * 50 + ["not_json", "refused_by_database"]


def test_a_refused_choice_leaves_the_voters_other_choices_in_their_order(drain, redis, database) -> None:
    refuse(database, "NEW.id = 'x' AND NEW.vote = 'a'")
    for choice in "babab":
        push(redis, "x", "y", choice=choice)
    drain(empty(redis), BATCH_VOTES="3")
    assert rows(database) == {"x": "b", "y": "b"}
    assert set(parked(redis)) <= {("x", "P0001")}


def test_one_voters_refused_votes_are_no_sign_that_it_is_the_table(drain, redis, database) -> None:
    """A foreign key, which refuses a made-up voter as well."""
    VoteTable(database).install()
    database.execute("CREATE TABLE voters (id varchar(255) PRIMARY KEY); INSERT INTO voters VALUES ('known')")
    database.execute("ALTER TABLE votes ADD CONSTRAINT registered FOREIGN KEY (id) REFERENCES voters")
    push(redis, *["stranger"] * 5, "known")
    drain(empty(redis))
    assert rows(database) == {"known": "a"}
    assert parked(redis) == [("stranger", "23503")] * 5


def test_voters_whom_a_foreign_key_refuses_wait_for_one_whom_it_takes(drain, redis, database) -> None:
    VoteTable(database).install()
    database.execute("CREATE TABLE voters (id varchar(255) PRIMARY KEY); INSERT INTO voters VALUES ('known')")
    database.execute("ALTER TABLE votes ADD CONSTRAINT registered FOREIGN KEY (id) REFERENCES voters")
    strangers = [f"stranger{number}" for number in range(8)]
    push(redis, *strangers)
    with pytest.raises(RunFailed, match=r"23503 ForeignKeyViolation .*constraint registered"):
        drain(lambda: False, within_s=3.0)
    assert waiting(redis) == strangers
    assert letters(redis) == []
    push(redis, "known")
    drain(empty(redis))
    assert rows(database) == {"known": "a"}
    assert parked(redis) == [(id_, "23503") for id_ in strangers]


def test_a_deferred_constraint_is_found_at_the_commit(drain, redis, database) -> None:
    refuse(database, "NEW.id = 'bad'", "23514")
    database.execute("""
        DROP TRIGGER picky ON votes;
        CREATE CONSTRAINT TRIGGER picky AFTER INSERT ON votes DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION picky()
    """)
    push(redis, "one", "bad", "two")
    drain(empty(redis))
    assert rows(database) == {"one": "a", "two": "a"}
    assert parked(redis) == [("bad", "23514")]


TABLE_FAULTS = {
    "a trigger of strangers": (RAISE.format(when="true", code="P0001"), "P0001 RaiseException .*function picky"),
    "a trigger with a code of its own": (RAISE.format(when="true", code="ZZ123"), "ZZ123 .*function picky"),
    "a check": ("ALTER TABLE votes ADD CONSTRAINT never CHECK (false)", "23514 CheckViolation .*constraint never"),
    "a further column": ("ALTER TABLE votes ADD at timestamptz NOT NULL", "23502 NotNullViolation .*column at"),
    "a further unique index": (
        "CREATE UNIQUE INDEX one ON votes ((1)); INSERT INTO votes VALUES ('first', 'a')",
        "23505 UniqueViolation .*constraint one",
    ),
    "no unique index": ("DROP INDEX idx_votes_id; ALTER TABLE votes DROP CONSTRAINT votes_id_key", "42P10 .*indexes"),
    "a column of another type": ("ALTER TABLE votes ALTER vote TYPE int USING 1", "42804 DatatypeMismatch"),
    "a column that has gone": ("ALTER TABLE votes RENAME vote TO choice", "42703 UndefinedColumn"),
    "a generated column": (
        "ALTER TABLE votes DROP vote; ALTER TABLE votes ADD vote varchar(255) GENERATED ALWAYS AS (id) STORED",
        "428C9 GeneratedAlways",
    ),
    "a rule": ("CREATE RULE told AS ON INSERT TO votes DO ALSO NOTIFY votes", "0A000 FeatureNotSupported"),
    "a trigger whose table is missing": (
        """CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END $$;
           CREATE TRIGGER audit BEFORE INSERT ON votes FOR EACH ROW EXECUTE FUNCTION audit()""",
        "42P01 UndefinedTable .*function audit",
    ),
    "a publication's row filter": (
        "CREATE PUBLICATION filtered FOR TABLE votes WHERE (vote = 'a')",
        "42P10 InvalidColumnReference.*row filter",
    ),
}


@pytest.mark.parametrize("waits", [1, 12])
@pytest.mark.parametrize("fault", TABLE_FAULTS)
@pytest.mark.usefixtures("published")
def test_a_fault_of_the_table_parks_nobody_and_is_named(drain, redis, database, fault, waits) -> None:
    statements, sentence = TABLE_FAULTS[fault]
    VoteTable(database).install()
    ids = [f"v{number}" for number in range(waits)]
    database.execute(statements)
    push(redis, *ids)
    with pytest.raises(RunFailed, match=sentence):
        drain(lambda: (met := read_trouble(redis, TROUBLE)) is not None and met.at_ms > met.since_ms)  # twice
    assert letters(redis) == []
    assert waiting(redis) == ids


def test_a_fault_of_the_table_that_is_mended_has_lost_nothing(drain, redis, database) -> None:
    refuse(database, "true", "23514")
    ids = [f"v{number}" for number in range(30)]
    push(redis, *ids, choice="b")
    push(redis, *ids[:15])
    began = time.monotonic()
    mended = False

    def mends() -> bool:
        nonlocal mended
        if not mended and time.monotonic() - began > 2.0:
            database.execute("DROP TRIGGER picky ON votes")
            mended = True
        return empty(redis)()

    assert drain(mends).parked == 0
    assert rows(database) == {**dict.fromkeys(ids[:15], "a"), **dict.fromkeys(ids[15:], "b")}


@pytest.mark.parametrize("tries", range(1, 12))
def test_a_fault_of_the_table_that_ends_at_any_moment_parks_nobody(drain, redis, database, tries) -> None:
    VoteTable(database).install()
    database.execute(f"""
        CREATE SEQUENCE tries;  -- which counts on over what is rolled back
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF nextval('tries') <= {tries} THEN RAISE EXCEPTION 'closed'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION refuse();
        GRANT USAGE ON SEQUENCE tries TO public
    """)
    push(redis, *"abcab")
    push(redis, *"ac", choice="b")
    drain(empty(redis))
    assert letters(redis) == []
    assert rows(database) == {"a": "b", "b": "a", "c": "b"}


def test_a_right_that_is_taken_away_and_given_back_has_lost_nothing(drain, redis, database, settings) -> None:
    VoteTable(database).install()
    database.execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN PASSWORD 'pw'")
    database.execute("GRANT ALL ON ALL TABLES IN SCHEMA public, voting TO poor; GRANT USAGE ON SCHEMA voting TO poor")
    database.execute("REVOKE INSERT ON votes FROM poor")
    url = settings.database_url
    poor = f"postgresql://poor:pw@{url.rpartition('@')[2]}"
    push(redis, *"abcdef")
    try:
        with pytest.raises(RunFailed, match=r"42501 InsufficientPrivilege.*GRANT"):
            drain(lambda: False, within_s=2.0, DATABASE_URL=poor)
        assert letters(redis) == []
        database.execute("GRANT INSERT ON votes TO poor")
        drain(empty(redis), DATABASE_URL=poor)
    finally:
        database.execute("DROP OWNED BY poor; DROP ROLE poor")
    assert rows(database) == dict.fromkeys("abcdef", "a")


def test_a_policy_that_refuses_one_voter_holds_up_nobody(drain, redis, database, settings) -> None:
    VoteTable(database).install()
    database.execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN PASSWORD 'pw'")
    database.execute("GRANT ALL ON ALL TABLES IN SCHEMA public, voting TO poor; GRANT USAGE ON SCHEMA voting TO poor")
    database.execute("ALTER TABLE votes ENABLE ROW LEVEL SECURITY")
    database.execute("CREATE POLICY picky ON votes TO poor USING (true) WITH CHECK (id <> 'bad')")
    push(redis, "one", "bad", "two", "three")
    try:
        drain(empty(redis), DATABASE_URL=f"postgresql://poor:pw@{settings.database_url.rpartition('@')[2]}")
    finally:
        database.execute("DROP OWNED BY poor; DROP ROLE poor")
    assert rows(database) == dict.fromkeys(["one", "two", "three"], "a")
    assert parked(redis) == [("bad", "42501")]


def test_a_trigger_that_ends_the_session_for_one_voter_holds_up_nobody(drain, redis, database) -> None:
    VoteTable(database).install()
    database.execute("""
        CREATE FUNCTION fatal() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.id = 'bad' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END $$;
        CREATE TRIGGER fatal BEFORE INSERT ON votes FOR EACH ROW EXECUTE FUNCTION fatal()
    """)
    push(redis, "one", "bad", "two", "three")
    drain(empty(redis))
    assert rows(database) == dict.fromkeys(["one", "two", "three"], "a")
    assert parked(redis) == [("bad", "57P01")]


@pytest.mark.parametrize("most", [1, 7, 64])
def test_a_trigger_that_refuses_large_batches_parks_nobody(drain, redis, database, most: int) -> None:
    VoteTable(database).install()
    database.execute(f"""
        CREATE FUNCTION small() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF (SELECT count(*) FROM new) > {most} THEN RAISE EXCEPTION 'too many'; END IF; RETURN NULL; END $$;
        CREATE TRIGGER small AFTER INSERT ON votes REFERENCING NEW TABLE AS new
        FOR EACH STATEMENT EXECUTE FUNCTION small()
    """)
    ids = [f"v{number}" for number in range(300)]
    push(redis, *ids)
    counted = drain(empty(redis))
    assert rows(database) == dict.fromkeys(ids, "a")
    assert counted.parked == 0


def test_a_trigger_that_is_slow_for_one_voter_holds_up_nobody(drain, redis, database) -> None:
    VoteTable(database).install()
    database.execute("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.id = 'slow' THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON votes FOR EACH ROW EXECUTE FUNCTION slow()
    """)
    ids = [f"v{number}" for number in range(100)]
    push(redis, *ids[:50], "slow", *ids[50:])
    drain(empty(redis), timeout_ms=1_000, within_s=60.0)
    assert rows(database) == dict.fromkeys(ids, "a")
    assert parked(redis) == [("slow", "57014")]


def test_a_row_that_somebody_locks_for_long_holds_up_nobody(drain, redis, database, database_url) -> None:
    VoteTable(database).install()
    database.execute("INSERT INTO votes VALUES ('held', 'b')")
    with psycopg.connect(database_url) as other:
        other.execute("SELECT * FROM votes WHERE id = 'held' FOR UPDATE")
        push(redis, "one", "held", "two")
        drain(empty(redis), within_s=60.0)
    assert rows(database) == {"one": "a", "two": "a", "held": "b"}
    assert parked(redis) == [("held", "55P03")]


def test_a_table_that_somebody_locks_parks_nobody(drain, redis, database, database_url) -> None:
    VoteTable(database).install()
    push(redis, "one", "two")
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE votes IN EXCLUSIVE MODE")
        with pytest.raises(RunFailed, match=r"57014|55P03"):
            drain(lambda: False, timeout_ms=300, within_s=6.0)
    drain(empty(redis))
    assert rows(database) == {"one": "a", "two": "a"}
    assert letters(redis) == []


def test_a_database_that_becomes_read_only_parks_nobody(drain, redis, database) -> None:
    VoteTable(database).install()
    push(redis, *"abcdef")
    database.execute("ALTER ROLE postgres SET default_transaction_read_only = on")
    try:
        with pytest.raises(RunFailed, match=r"25006 .*read-only"):
            drain(lambda: False, within_s=2.0)
    finally:
        database.execute("ALTER ROLE postgres RESET default_transaction_read_only")
    assert letters(redis) == []
    drain(empty(redis))
    assert rows(database) == dict.fromkeys("abcdef", "a")


LEAVE_OUT = """
CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF {when} THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER leave_out BEFORE INSERT OR UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION leave_out()
"""


@pytest.mark.parametrize("others", [5, WORTH_COPYING])
def test_a_vote_whose_row_a_trigger_leaves_out_is_parked_and_not_called_stored(drain, redis, database, others) -> None:
    VoteTable(database).install()
    database.execute(LEAVE_OUT.format(when="NEW.id = 'bad'"))
    push(redis, "first", "bad", *(f"v{number}" for number in range(others)))
    drain(empty(redis))
    assert parked(redis) == [("bad", None)]
    assert [letter["error"] for letter in letters(redis)] == ["RowsLeftOut"]
    assert len(rows(database)) == others + 1


def test_a_changed_vote_that_a_trigger_leaves_out_is_parked(drain, redis, database) -> None:
    VoteTable(database).install()
    push(redis, *"abc")
    drain(empty(redis))
    database.execute(LEAVE_OUT.format(when="TG_OP = 'UPDATE' AND NEW.id = 'b'"))
    push(redis, *"abc", choice="b")
    drain(empty(redis))
    assert rows(database) == {"a": "b", "b": "a", "c": "b"}
    assert parked(redis) == [("b", None)]


def test_a_trigger_that_leaves_out_every_row_is_a_fault_of_the_table(drain, redis, database) -> None:
    VoteTable(database).install()
    database.execute(LEAVE_OUT.format(when="true"))
    push(redis, *"abcdef")
    with pytest.raises(RunFailed, match="leaves out rows"):
        drain(lambda: (met := read_trouble(redis, TROUBLE)) is not None and met.at_ms > met.since_ms)
    assert letters(redis) == []
    assert waiting(redis) == list("abcdef")
    database.execute("DROP FUNCTION leave_out CASCADE")
    drain(empty(redis))
    assert rows(database) == dict.fromkeys("abcdef", "a")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE RULE none AS ON INSERT TO votes DO INSTEAD NOTHING",
        """CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.vote := upper(NEW.vote); RETURN NEW; END $$;
           CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION shout()""",
    ],
    ids=["a rule that drops", "a trigger that rewrites"],
)
def test_what_keeps_every_vote_from_being_counted_is_a_fault_of_the_table(drain, redis, database, statement) -> None:
    VoteTable(database).install()
    database.execute(statement)
    push(redis, *"abcdef")
    with pytest.raises(RunFailed):
        drain(lambda: (met := read_trouble(redis, TROUBLE)) is not None and met.at_ms > met.since_ms)
    assert letters(redis) == []
    assert waiting(redis) == list("abcdef")


def test_a_rule_that_drops_one_voter_costs_that_vote_only_and_is_seen(drain, redis, database) -> None:
    VoteTable(database).install()
    database.execute("CREATE RULE picky AS ON INSERT TO votes WHERE new.id = 'bad' DO INSTEAD NOTHING")
    push(redis, *"ab", "bad", *"cd")
    with suppress(RunFailed):
        drain(lambda: empty(redis)() or read_trouble(redis, TROUBLE) is not None)
    assert "bad" in waiting(redis) or parked(redis) == [("bad", None)]


def test_returning_voters_whom_a_trigger_refuses_do_not_hold_up_new_ones(drain, redis, database) -> None:
    VoteTable(database).install()
    returning = [f"r{number}" for number in range(40)]
    push(redis, *returning)
    drain(empty(redis))
    database.execute(RAISE.format(when="TG_OP = 'UPDATE'", code="P0001"))
    push(redis, *returning, choice="b")
    push(redis, *"abc")
    drain(empty(redis))
    assert [voter for voter, _ in parked(redis)] == returning
    assert rows(database) == dict.fromkeys([*returning, *"abc"], "a")


@pytest.mark.parametrize("choice", ["a", "b"])
def test_a_choice_that_a_check_refuses_does_not_hold_up_the_other(drain, redis, database, choice) -> None:
    VoteTable(database).install()
    database.execute(f"ALTER TABLE votes ADD CONSTRAINT picky CHECK (vote <> '{choice}')")
    push(redis, *(f"x{number}" for number in range(30)), choice=choice)
    push(redis, *"uvw", choice="b" if choice == "a" else "a")
    drain(empty(redis))
    assert len(parked(redis)) == 30
    assert set(rows(database)) == set("uvw")


def test_a_run_that_dies_while_it_looks_for_the_refused_has_moved_nothing(drain, redis, database) -> None:
    """Each run gets through some steps only; what is held is in process, in its order, all the time."""
    refuse(database, "NEW.id LIKE 'bad%'")
    ids = ["bad0", "one", "bad1", "bad2", "bad3", "bad4", "two", "three"]
    push(redis, *ids)
    for steps in range(1, 20):
        taken = iter(range(steps % 7))
        drain(lambda taken=taken: next(taken, None) is None)
        left = waiting(redis)
        assert left == ids[len(ids) - len(left) :]
    drain(empty(redis))
    assert rows(database) == dict.fromkeys(["one", "two", "three"], "a")
    assert {voter for voter, _ in parked(redis)} == {f"bad{number}" for number in range(5)}
    assert len(letters(redis)) == 5


# ------------------------------------------------------------------- publications


def test_a_publication_over_all_tables_stops_nobody_where_the_table_is_ours(drain, redis, database, published) -> None:
    database.execute(EVERYTHING)
    push(redis, "x", "y")
    push(redis, "x", choice="b")
    drain(empty(redis), BATCH_VOTES="2")
    assert rows(database) == {"x": "b", "y": "a"}


def test_a_publication_over_a_table_of_others_is_named_and_heals(drain, redis, database, published) -> None:
    database.execute(EVERYTHING)
    database.execute(f"{OLD_TABLE}; CREATE UNIQUE INDEX idx_votes_id ON votes (id)")
    push(redis, "x", "y")
    push(redis, "x", choice="b")
    with pytest.raises(RunFailed, match=f"55000 .*{ALTER}"):
        drain(lambda: False, within_s=2.0, BATCH_VOTES="2")
    assert waiting(redis) == ["x", "y", "x"]
    assert letters(redis) == []
    database.execute(ALTER)
    drain(empty(redis), BATCH_VOTES="2")
    assert rows(database) == {"x": "b", "y": "a"}


def test_a_table_that_was_there_is_not_altered(database) -> None:
    database.execute(OLD_TABLE)
    VoteTable(database).install()
    identity = "SELECT relreplident FROM pg_class WHERE oid = 'votes'::regclass"
    assert database.execute(identity).fetchone() == ("d",)


# ------------------------------------------------------------------- encodings and spellings


@pytest.fixture
def encoded(database: psycopg.Connection, database_url: str) -> Iterator[Callable[[str], str]]:
    """Make a database in some encoding, and return its URL."""
    made = []

    def make(encoding: str) -> str:
        name = f"in_{encoding.lower()}"
        database.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        database.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        made.append(name)
        return f"{database_url.rpartition('/')[0]}/{name}"

    yield make
    for name in made:
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")


def stored(url: str) -> dict[str, str]:
    with psycopg.connect(url, client_encoding="UTF8") as connection:
        return rows(connection)


@pytest.mark.parametrize(
    ("encoding", "lacks"),
    [("LATIN1", ["€", "Ж"]), ("LATIN9", ["Ж"]), ("WIN1251", ["ü"]), ("SQL_ASCII", []), ("EUC_JP", ["ü€"])],
)
def test_only_ids_that_the_encoding_lacks_are_parked(drain, redis, encoded, encoding: str, lacks: list[str]) -> None:
    url = encoded(encoding)
    ids = ["one", "ü", "two", "€", "three", "Ж", "ü€", "four"]
    push(redis, *ids)
    drain(empty(redis), DATABASE_URL=url)
    refused = [id_ for id_, code in parked(redis) if code == "22P05"]
    assert refused == [id_ for _, id_ in zip(parked(redis), refused, strict=True)]
    assert set(refused) >= set(lacks)
    assert stored(url) == dict.fromkeys([id_ for id_ in ids if id_ not in refused], "a")
    push(redis, *ids, choice="b")
    drain(empty(redis), DATABASE_URL=url)
    assert stored(url) == dict.fromkeys([id_ for id_ in ids if id_ not in refused], "b")


@pytest.mark.parametrize("whose", ["ROLE postgres", "DATABASE postgres"])
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_what_a_role_says_of_the_clients_encoding_changes_nothing(drain, redis, database, whose, encoding) -> None:
    database.execute(f"ALTER {whose} SET client_encoding = '{encoding}'")
    try:
        push(redis, "one", "€", "ü")
        drain(empty(redis))
    finally:
        database.execute(f"ALTER {whose} RESET client_encoding")
    assert rows(database) == dict.fromkeys(["one", "€", "ü"], "a")


def test_a_trigger_that_changes_the_clients_encoding_stops_nobody(drain, redis, database) -> None:
    """The client then cannot encode an id: no error of the database's."""
    VoteTable(database).install()
    database.execute("""
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('client_encoding', 'LATIN1', false); RETURN NEW; END $$;
        CREATE TRIGGER meddle BEFORE INSERT ON votes FOR EACH ROW EXECUTE FUNCTION meddle()
    """)
    push(redis, "one", "€", "two", "€€", "three")
    drain(empty(redis), BATCH_VOTES="2")
    assert set(rows(database)) == {"one", "€", "two", "€€", "three"}
    assert letters(redis) == []


# What the extension citext does, which the embedded Postgres lacks, in SQL.
CITEXT = """
CREATE TYPE citext;
CREATE FUNCTION citextin(cstring) RETURNS citext LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION citextout(citext) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE citext (INPUT = citextin, OUTPUT = citextout, LIKE = text, CATEGORY = 'S', COLLATABLE = true);
CREATE CAST (citext AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS citext) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE FUNCTION citext_cmp(citext, citext) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS
    'SELECT bttextcmp(lower($1::text), lower($2::text))';
"""
OPERATOR = """
CREATE FUNCTION citext_{name}(citext, citext) RETURNS bool LANGUAGE sql IMMUTABLE STRICT AS
    'SELECT lower($1::text) {sign} lower($2::text)';
CREATE OPERATOR {sign} (LEFTARG = citext, RIGHTARG = citext, FUNCTION = citext_{name});
"""
OPERATORS = {"lt": "<", "le": "<=", "eq": "=", "ge": ">=", "gt": ">"}
CLASS = """
CREATE OPERATOR CLASS citext_ops DEFAULT FOR TYPE citext USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 citext_cmp(citext, citext);
CREATE TABLE votes (id citext NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)
"""


@pytest.fixture
def caseless(database: psycopg.Connection) -> None:
    """A table whose ids are equal whatever their case."""
    database.execute(CITEXT)
    for name, sign in OPERATORS.items():
        database.execute(OPERATOR.format(name=name, sign=sign))
    database.execute(CLASS)


def test_two_spellings_of_one_id_end_as_the_last_choice(drain, redis, database, caseless) -> None:
    for id_, choice in [("Ann", "a"), ("bob", "a"), ("ann", "b"), ("ANN", "a"), ("Bob", "b"), ("aNN", "b")]:
        push(redis, id_, choice=choice)
    drain(empty(redis))
    assert {id_.lower(): choice for id_, choice in rows(database).items()} == {"ann": "b", "bob": "b"}
    assert letters(redis) == []
    push(redis, "ann", "ANN", "bob")
    drain(empty(redis))
    assert {id_.lower(): choice for id_, choice in rows(database).items()} == {"ann": "a", "bob": "a"}


def test_two_spellings_in_a_batch_that_is_copied_end_as_the_last_choice(drain, redis, database, caseless) -> None:
    ids = [f"v{number}" for number in range(WORTH_COPYING)]
    push(redis, *ids, "V7", "V8", choice="b")
    drain(empty(redis))
    push(redis, *(id_.upper() for id_ in ids), "v9")
    drain(empty(redis))
    assert {id_.lower(): choice for id_, choice in rows(database).items()} == dict.fromkeys(ids, "a")
    assert letters(redis) == []


def test_padded_ids_end_as_the_last_choice(drain, redis, database) -> None:
    database.execute("CREATE TABLE votes (id CHAR(20) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)")
    ids = [f"v{number}" for number in range(WORTH_COPYING)]
    push(redis, *ids, "v7 ", "v8  ", choice="b")
    drain(empty(redis))
    push(redis, "i" * 21, *ids, "v9 ")
    drain(empty(redis))
    assert {id_.strip(): choice for id_, choice in rows(database).items()} == dict.fromkeys(ids, "a")
    assert parked(redis) == [("i" * 21, "22001")]
