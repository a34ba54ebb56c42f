"""What a preflight says of stores in all kinds of states; each is made for real.

Covers inspect, finding, queue, redis and list_watch.
"""

import re
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from redis import Redis

from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.ops.preflight.finding import Finding
from voting.ops.preflight.identity import identity_findings
from voting.ops.preflight.inspect import inspect
from voting.ops.preflight.queue import message_findings
from voting.queue.queue_view import VOTES
from voting.settings import Settings
from voting.vote import Vote

OLD_TABLE = "CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)"
BREAK = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass"
SUBSCRIBE = """
INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
SELECT oid, 'votes'::regclass, 'r' FROM pg_subscription WHERE subname = 'elsewhere'
"""
PARTIAL = "CREATE UNIQUE INDEX some_votes ON votes (id) WHERE vote = 'a'"
Look = Callable[..., list[Finding]]


@pytest.fixture
def look(clients: Clients, redis: Redis, database: psycopg.Connection) -> Look:
    return lambda watch_s=0.1: inspect(clients, watch_s=watch_s)


def worst(findings: list[Finding], *words: str) -> str:
    """The level of the one finding that says all the *words*."""
    (found,) = [finding for finding in findings if all(word in finding.what for word in words)]
    assert bool(found.todo) is (found.level != "ok")
    return found.level


def problems(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.level == "problem"]


def test_the_stores_of_the_old_app_have_no_problem(look: Look, redis, database) -> None:
    database.execute(OLD_TABLE)
    redis.lpush(VOTES, Vote("a", "x").encode(), b'{"voter_id":"y","vote":"b"}')
    findings = look()
    assert problems(findings) == []
    assert worst(findings, "indexes are missing", "idx_votes_id, idx_votes_vote") == "warning"
    assert worst(findings, "2 of 2 messages are votes", "1 spelled differently") == "ok"
    assert worst(findings, "the column id is unique") == "ok"
    assert worst(findings, "noeviction") == "ok"
    assert worst(findings, "UTF8") == "ok"
    assert worst(findings, "ids of the container app") == "ok"


@pytest.mark.parametrize(
    ("setting", "level", "words"),
    [
        ("true", "warning", "can be predicted"),
        ("false", "ok", "new voters here"),
        ("", "ok", "new voters here"),
        ("maybe", "problem", "ACCEPT_LEGACY_IDS is 'maybe'"),
    ],
)
def test_whether_ids_of_the_old_app_are_accepted_is_said(clients, setting: str, level: str, words: str) -> None:
    settings = Settings.from_env({**clients.settings.env, "ACCEPT_LEGACY_IDS": setting})
    assert worst(list(identity_findings(settings)), words) == level


def test_our_own_stores_have_no_problem(look: Look, database) -> None:
    VoteTable(database).install()
    findings = look()
    assert problems(findings) == []
    assert worst(findings, "the contract's indexes exist") == "ok"


def test_no_table_is_no_problem(look: Look) -> None:
    assert worst(look(), "there is no table") == "ok"


def test_nothing_is_changed(look: Look, redis, database) -> None:
    redis.lpush(VOTES, b"1")
    look()
    assert redis.keys() == [b"votes"]
    assert database.execute("SELECT to_regclass('votes'), to_regclass('vote_tally')").fetchone() == (None, None)


@pytest.mark.parametrize(
    ("statements", "words", "level"),
    [
        ("CREATE TABLE votes (id varchar(255) NOT NULL, vote varchar(255) NOT NULL)", ["no valid unique"], "problem"),
        (
            "CREATE TABLE votes (id varchar(255) NOT NULL, vote varchar(255) NOT NULL, UNIQUE (id, vote))",
            ["no valid unique"],
            "problem",
        ),
        (
            "CREATE TABLE votes (id varchar(255) NOT NULL UNIQUE DEFERRABLE, vote varchar(255) NOT NULL)",
            ["no valid unique"],
            "problem",
        ),
        (
            f"{OLD_TABLE}; ALTER TABLE votes DROP CONSTRAINT votes_id_key; {PARTIAL}",
            ["no valid unique"],
            "problem",
        ),
        (
            "CREATE TABLE votes (id varchar(20) NOT NULL UNIQUE, vote varchar(255) NOT NULL)",
            ["column id is character varying(20)"],
            "problem",
        ),
        ("CREATE TABLE votes (id varchar(255) NOT NULL UNIQUE)", ["column vote is missing"], "problem"),
        ("CREATE TABLE votes (id varchar(255) UNIQUE, vote varchar(255) NOT NULL)", ["id takes NULL"], "warning"),
        ("CREATE TABLE votes (id varchar(255) NOT NULL UNIQUE, vote varchar(255))", ["vote takes NULL"], "warning"),
        ("CREATE TABLE votes (id text NOT NULL UNIQUE, vote text NOT NULL)", ["vote is text"], "warning"),
        ("CREATE TABLE votes (id text NOT NULL UNIQUE, vote char(1) NOT NULL)", ["vote is character(1)"], "problem"),
        (f"{OLD_TABLE}; ALTER TABLE votes ADD at timestamptz NOT NULL", ["column at is required"], "problem"),
        (f"{OLD_TABLE}; ALTER TABLE votes ADD at timestamptz", ["additional column at"], "warning"),
        (f"{OLD_TABLE}; ALTER TABLE votes ENABLE ROW LEVEL SECURITY", ["row-level security"], "problem"),
        (f"{OLD_TABLE}; ALTER TABLE votes ADD CONSTRAINT picky CHECK (id <> '')", ["other constraints"], "warning"),
        (f"{OLD_TABLE}; INSERT INTO votes VALUES ('x', 'Cats')", ["choices other than", "'Cats'"], "warning"),
        (f"{OLD_TABLE}; INSERT INTO votes VALUES ('x', 'a'); ANALYZE votes", ["about 1 rows"], "ok"),
        (
            f"{OLD_TABLE}; CREATE INDEX broken ON votes (vote); {BREAK}",
            ["broken is invalid"],
            "warning",
        ),
        (
            f"{OLD_TABLE}; CREATE RULE r AS ON INSERT TO votes DO INSTEAD NOTHING",
            ["there are rules: r"],
            "problem",
        ),
        (
            "CREATE TABLE votes (id char(40) NOT NULL UNIQUE, vote varchar(255) NOT NULL)",
            ["column id is character(40)"],
            "problem",
        ),
        ("CREATE VIEW votes AS SELECT ''::varchar(255) AS id, ''::varchar(255) AS vote", ["not a plain"], "problem"),
    ],
)
def test_a_table_that_is_not_the_contracts_is_told(look: Look, database, statements, words, level) -> None:
    database.execute(statements)
    assert worst(look(), *words) == level


@pytest.mark.parametrize(
    "statement",
    ["DISABLE TRIGGER USER", "DISABLE TRIGGER vote_tally_update", "ENABLE REPLICA TRIGGER vote_tally_update"],
)
def test_disabled_triggers_are_a_problem(look: Look, database, statement: str) -> None:
    VoteTable(database).install()
    database.execute(f"ALTER TABLE votes {statement}")
    assert worst(look(), "triggers of the tally are disabled", "vote_tally_update") == "problem"


def test_a_subscription_that_writes_the_table_is_told(look: Look, database) -> None:
    VoteTable(database).install()
    database.execute(
        "CREATE SUBSCRIPTION elsewhere CONNECTION 'dbname=nowhere' PUBLICATION theirs WITH (connect = false)"
    )
    try:
        database.execute(SUBSCRIBE)
        assert worst(look(), "a subscription writes the table") == "warning"
    finally:
        database.execute("ALTER SUBSCRIPTION elsewhere SET (slot_name = NONE)")
        database.execute("DROP SUBSCRIPTION elsewhere")


PUBLICATION = "CREATE PUBLICATION published FOR"
IDENTIFY = "ALTER TABLE votes REPLICA IDENTITY USING INDEX idx_votes_id"


@pytest.mark.parametrize(
    ("publication", "is_ours", "words", "level"),
    [
        ("", True, ["has a replica identity"], "ok"),
        ("", False, ["no replica identity", "would be refused"], "warning"),
        (f"{PUBLICATION} ALL TABLES", True, ["has a replica identity"], "ok"),
        (f"{PUBLICATION} ALL TABLES", False, ["no replica identity: published"], "problem"),
        (f"{PUBLICATION} TABLES IN SCHEMA public", False, ["no replica identity: published"], "problem"),
        (f"{PUBLICATION} TABLE votes", False, ["no replica identity: published"], "problem"),
        (f"{PUBLICATION} TABLE votes (id)", False, ["no replica identity: published"], "problem"),
        (f"{PUBLICATION} ALL TABLES WITH (publish = 'insert')", False, ["would be refused"], "warning"),
        (f"CREATE TABLE other (); {PUBLICATION} TABLE other", False, ["would be refused"], "warning"),
        (f"{PUBLICATION} TABLE votes WHERE (vote = 'a')", True, ["some rows or columns", "published"], "warning"),
        (f"{PUBLICATION} TABLE votes (vote)", True, ["some rows or columns", "published"], "warning"),
    ],
)
def test_a_publication_that_would_refuse_votes_is_told(
    look: Look, database, publication, is_ours, words, level
) -> None:
    if is_ours:
        VoteTable(database).install()
    else:
        database.execute(f"{OLD_TABLE}; CREATE UNIQUE INDEX idx_votes_id ON votes (id)")
    if publication:
        database.execute(publication)
    try:
        found = look()
    finally:
        database.execute("DROP PUBLICATION IF EXISTS published")
    assert worst(found, *words) == level
    if not is_ours:
        assert any(finding.todo.startswith(IDENTIFY) for finding in found)


@pytest.mark.parametrize("identity", ["FULL", "USING INDEX votes_id_key", "DEFAULT"])
def test_any_replica_identity_that_knows_the_rows_is_fine(look: Look, database, identity: str) -> None:
    database.execute(f"{OLD_TABLE}; ALTER TABLE votes REPLICA IDENTITY {identity}")
    if identity == "DEFAULT":
        database.execute("ALTER TABLE votes ADD PRIMARY KEY (id)")
    assert worst(look(), "has a replica identity") == "ok"


@pytest.mark.parametrize(
    ("encoding", "level", "todo"),
    [("LATIN1", "warning", "22P05"), ("WIN1252", "warning", "22P05"), ("SQL_ASCII", "warning", "255 bytes")],
)
def test_what_an_encoding_would_park_is_told(
    settings: Settings, redis, database, database_url: str, encoding: str, level: str, todo: str
) -> None:
    name = f"preflight_{encoding.lower()}"
    database.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    database.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    url = f"{database_url.rpartition('/')[0]}/{name}"
    clients = Clients(Settings({**settings.env, "DATABASE_URL": url}))
    try:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(OLD_TABLE)
        found = inspect(clients, watch_s=0.1)
    finally:
        clients.close()
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert problems(found) == []
    assert worst(found, f"encoding is {encoding}") == level
    assert any(todo in finding.todo for finding in found)


@pytest.fixture
def stranger(settings: Settings, redis: Redis, database: psycopg.Connection, database_url: str) -> Iterator[Clients]:
    """Clients whose database role may do nothing that it was not granted."""
    database.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD 'strange'")
    url = psycopg.conninfo.conninfo_to_dict(database_url)
    stranger_url = f"postgresql://stranger:strange@{url['host']}:{url['port']}/{url['dbname']}"
    clients = Clients(Settings({**settings.env, "DATABASE_URL": stranger_url}))
    yield clients
    clients.close()
    database.execute("DROP OWNED BY stranger CASCADE; DROP ROLE stranger")


def test_rights_that_are_lacking_are_told(stranger: Clients, database) -> None:
    assert any("may not create tables" in what for what in problems(inspect(stranger, watch_s=0.1)))
    database.execute(f"{OLD_TABLE}; GRANT SELECT, INSERT, UPDATE ON votes TO stranger")
    found = inspect(stranger, watch_s=0.1)
    assert problems(found) == [
        "the role stranger may not create a schema for the tally",
        "our role lacks TRIGGER on votes",
    ]
    assert worst(found, "does not own the table") == "warning"


def test_what_it_grants_is_enough_to_install_and_count(stranger: Clients, database) -> None:
    database.execute(f"{OLD_TABLE}; GRANT SELECT, INSERT, UPDATE, TRIGGER ON votes TO stranger")
    database.execute("CREATE SCHEMA voting AUTHORIZATION stranger")
    assert problems(inspect(stranger, watch_s=0.1)) == []
    table = VoteTable(stranger.postgres())
    table.install()
    assert table.record([Vote("a", "x")], table.take_fence()) == 1
    assert table.tally().counts == {"a": 1}


@pytest.mark.parametrize("schema", ["public", "app", 'An "odd" one'])
def test_the_statement_that_it_gives_makes_the_schema(stranger: Clients, database, schema: str) -> None:
    there = '"' + schema.replace('"', '""') + '"'
    database.execute(f"CREATE SCHEMA IF NOT EXISTS {there}; SET search_path = {there}")
    database.execute(f"GRANT USAGE ON SCHEMA {there} TO stranger; ALTER ROLE stranger SET search_path = {there}")
    database.execute(f"{OLD_TABLE}; GRANT SELECT, INSERT, UPDATE, TRIGGER ON votes TO stranger")
    try:
        (found,) = [one for one in inspect(stranger, watch_s=0.1) if one.level == "problem"]
        (statement,) = re.findall("CREATE SCHEMA .* AUTHORIZATION .*[^.]", found.todo)
        database.execute(statement)
        stranger.forget_postgres()
        assert problems(inspect(stranger, watch_s=0.1)) == []
        assert VoteTable(stranger.postgres()).install() is True
    finally:
        database.execute("DROP OWNED BY stranger CASCADE")
        if schema != "public":
            database.execute(f"DROP SCHEMA {there} CASCADE")


@pytest.mark.parametrize(
    ("setting", "value", "words", "level"),
    [
        ("maxmemory-policy", "allkeys-lru", ["evicts keys (allkeys-lru)"], "problem"),
        ("appendonly", "no", ["no append-only file"], "warning"),
        ("appendfsync", "always", ["written through"], "ok"),
    ],
)
def test_settings_of_redis_that_lose_votes_are_told(look: Look, redis, setting, value, words, level) -> None:
    before = redis.config_get(setting)[setting]
    redis.config_set(setting, value)
    try:
        assert worst(look(), *words) == level
    finally:
        redis.config_set(setting, before)


def test_what_cannot_be_asked_is_said_to_be_so(settings: Settings, redis: Redis, redis_url: str, database) -> None:
    redis.acl_setuser("limited", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-config"])
    redis.config_set("appendonly", "no")
    address = redis_url.rpartition("@")[2]
    clients = Clients(Settings({**settings.env, "REDIS_URL": f"redis://limited:secret@{address}"}))
    try:
        found = inspect(clients, watch_s=0.1)
        assert worst(found, "snapshots cannot be read") == "warning"
        redis.acl_setuser("limited", commands=["-info"])
        assert worst(inspect(clients, watch_s=0.1), "INFO is not allowed") == "warning"
        redis.acl_setuser("limited", commands=["-eval"])
    finally:
        clients.close()
        redis.config_set("appendonly", "yes")
        redis.acl_deluser("limited")


def test_stores_that_are_away_are_problems(settings: Settings) -> None:
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    clients = Clients(Settings({**settings.env, **nowhere}))
    assert len(problems(inspect(clients, watch_s=0.1))) == 2


def test_a_wrong_type_is_a_problem(look: Look, redis) -> None:
    redis.set(VOTES, "precious")
    assert worst(look(), "is a string") == "problem"


@pytest.mark.parametrize(
    ("push", "words", "level"), [("lpush", ["LPUSH"], "ok"), ("rpush", ["to the tail (RPUSH)"], "problem")]
)
def test_the_producers_end_is_told(look: Look, redis, push, words, level) -> None:
    redis.lpush(VOTES, Vote("a", "first").encode())
    stop = threading.Event()

    def produce() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            getattr(redis, push)(VOTES, Vote("a", f"v{number}").encode())
            stop.wait(0.01)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        assert worst(look(1.0), *words) == level
    finally:
        stop.set()
        producer.join()


def test_messages_that_would_be_parked_are_told_by_reason() -> None:
    long, junk, vote = Vote("a", "i" * 256).encode(), b"junk", Vote("a", "x").encode()
    found = list(message_findings([vote, long, long, junk], "ab"))
    assert worst(found, "1 of 4 messages are votes") == "ok"
    assert worst(found, "2 of 4", "more than 255 characters") == "warning"
    assert worst(found, "1 of 4 messages are not votes", "not_json") == "warning"


@pytest.mark.parametrize(("options", "named"), [("", "a and b"), ("Tea|Milk|Water", "a to c")])
def test_choices_that_are_no_options_are_told(
    redis: Redis, database: psycopg.Connection, settings: Settings, options: str, named: str
) -> None:
    database.execute(f"{OLD_TABLE}; INSERT INTO votes VALUES ('x', 'c'), ('y', 'd')")
    redis.lpush(VOTES, Vote("c", "x").encode(), Vote("d", "y").encode())
    clients = Clients(Settings({**settings.env, "OPTIONS": options}))
    findings = inspect(clients, watch_s=0.1)
    clients.close()
    unknown = "'d'" if options else "'c', 'd'"
    assert worst(findings, f"rows hold choices other than {named}: {unknown}") == "warning"
    count = 1 if options else 2
    assert worst(findings, f"{count} of 2 messages are not votes: choices other than {named}") == "warning"


def test_options_that_cannot_be_read_are_a_problem(redis: Redis, database, settings: Settings) -> None:
    clients = Clients(Settings({**settings.env, "OPTIONS": "Tea|"}))
    found = problems(inspect(clients, watch_s=0.1))
    clients.close()
    assert any("OPTIONS number 2 is empty" in what for what in found)
