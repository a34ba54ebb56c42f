"""Other roles of the database stay what they are, where they may create beside `votes` as everybody might in
PostgreSQL 14: on the embedded server and on Debian's.

Each attack lets a plain role become superuser if anything that it made runs with the rights of our login. Superusers are
what we then look for.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from tests.debian_postgres import debian_postgres
from voting.clients import Clients
from voting.drain import Drain, RunFailed
from voting.operations import operate
from voting.ownership import NotOurs
from voting.roles import Role
from voting.settings import Settings
from voting.tally import VoteTable
from voting.vote import Vote
from voting.vote_queue import VoteQueue

MALLORY = "mallory"
# What a role gets that may run a statement as our login: itself made superuser, and what it may not read.
LOOT = f"ALTER ROLE {MALLORY} SUPERUSER"
OPEN = f"""
DROP SCHEMA IF EXISTS public CASCADE;
CREATE SCHEMA public;
GRANT ALL ON SCHEMA public TO PUBLIC;
GRANT CREATE ON DATABASE {{database}} TO {MALLORY}
"""


@pytest.fixture(scope="session")
def debian_url() -> Iterator[str]:
    with debian_postgres() as url:
        yield url


@pytest.fixture(params=["embedded", "debian"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue({"embedded": "database_url", "debian": "debian_url"}[request.param])


@pytest.fixture
def owner(url: str) -> Iterator[psycopg.Connection]:
    """The superuser, as whom our functions log in; the schema is open as in PostgreSQL 14, and mallory is there."""
    with psycopg.connect(url, autocommit=True) as owner:
        clean(owner)
        owner.execute(f"CREATE ROLE {MALLORY} LOGIN PASSWORD 'm'")
        owner.execute(OPEN.format(database=urlsplit(url).path[1:]))
        yield owner
        clean(owner)
        owner.execute("CREATE SCHEMA IF NOT EXISTS public")


def clean(owner: psycopg.Connection) -> None:
    owner.execute("DROP SCHEMA IF EXISTS public CASCADE; DROP SCHEMA IF EXISTS voting CASCADE")
    for role in (MALLORY, *Role):
        if owner.execute("SELECT to_regrole(%s)", (role,)).fetchone() != (None,):
            owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.fixture
def mallory(owner: psycopg.Connection, url: str) -> Iterator[psycopg.Connection]:
    login = psycopg.conninfo.make_conninfo(url, user=MALLORY, password="m")
    with psycopg.connect(login, autocommit=True) as mallory:
        yield mallory


@pytest.fixture
def ours(owner, url: str, settings: Settings) -> Settings:
    return Settings({**settings.env, "DATABASE_URL": url})


def count_votes(settings: Settings, redis: Redis) -> None:
    """What every function of ours does with the database, by our real code."""
    worker = Clients(settings, redis_retries=0, role=Role.WORKER)
    queue = VoteQueue(worker.redis())
    for number in range(3):
        queue.push(Vote("ab"[number % 2], f"voter{number}"))
    Drain(worker, lambda: 60.0 if queue.length() else 0.0, lambda: None).run()
    table = VoteTable(worker.postgres())
    table.record([Vote("a", f"voter{number}") for number in range(2000)], table.take_fence())
    table.record([Vote("b", f"voter{number}") for number in range(1999)], table.take_fence())
    assert sum(table.tally().counts.values()) == 2000
    table.outgrow(1)
    worker.close()
    for role in (Role.OPERATOR, None):
        clients = Clients(settings, role=role)
        for event in (
            {"operation": "status", "count": True},
            {"operation": "tally verify", "repair": True},
            {"operation": "preflight", "watch_s": 0.1},
            {"operation": "indexes"},
            {"operation": "dead requeue"},
        ):
            assert operate(clients, event)["ok"], event
        clients.close()
    reader = Clients(settings, name="voting-result", role=Role.READER)
    assert sum(VoteTable(reader.postgres()).tally().counts.values()) == 2000
    reader.close()


def is_plain(owner: psycopg.Connection) -> bool:
    """Whether mallory is what it was: no superuser, member of nothing, and may read nothing of ours."""
    query = """
        SELECT NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
               AND NOT EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)
               AND NOT EXISTS (
                   SELECT FROM pg_class WHERE relname IN ('votes', 'vote_tally', 'vote_worker_fence')
                   AND relowner <> pg_roles.oid AND has_table_privilege(pg_roles.oid, pg_class.oid, 'SELECT')
               )
        FROM pg_roles WHERE rolname = 'mallory'
    """
    return owner.execute(query).fetchone() == (True,)


# An operator or a function in `public` that takes the types of a statement of ours exactly.
def takes(name: str, left: str, right: str, result: str = "boolean", value: str = "true") -> str:
    return f"""
        CREATE OR REPLACE FUNCTION public.take(l {left}, r {right}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN
            {LOOT}; RETURN {value};
        EXCEPTION WHEN insufficient_privilege OR read_only_sql_transaction THEN RETURN {value};
        END $$;
        CREATE OPERATOR public.{name} (FUNCTION = public.take, LEFTARG = {left}, RIGHTARG = {right})
    """


def calls(signature: str, result: str, value: str) -> str:
    return f"""
        CREATE FUNCTION public.{signature} RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN
            {LOOT}; RETURN {value};
        EXCEPTION WHEN insufficient_privilege OR read_only_sql_transaction THEN RETURN {value};
        END $$
    """


BETTER_FITS = {
    "numeric * integer": takes("*", "numeric", "integer", "numeric", "l"),
    "numeric <> integer": takes("<>", "numeric", "integer"),
    "bigint + integer": takes("+", "bigint", "integer", "bigint", "l"),
    "oid = regclass": takes("=", "oid", "regclass"),
    "varchar = text": takes("=", "varchar", "text"),
    "varchar = varchar": takes("=", "varchar", "varchar"),
    "name = unknown's text": takes("<>", "name", "text"),
    "double / integer": takes("/", "double precision", "integer", "double precision", "l"),
    "integer * interval": takes("*", "integer", "interval", "interval", "r"),
    "smallint & integer": takes("&", "smallint", "integer", "integer", "r"),
    "greatest's pg_has_role": calls("pg_has_role(oid, name, varchar)", "boolean", "true"),
    "hashtext(varchar)": calls("hashtext(varchar)", "integer", "1"),
    "starts_with(name, text)": calls("starts_with(name, text)", "boolean", "true"),
    "to_regclass(varchar)": calls("to_regclass(varchar)", "regclass", "NULL"),
    "unnest of text": calls("unnest(varchar[])", "text", "'x'"),
}


@pytest.mark.parametrize("statements", BETTER_FITS.values(), ids=BETTER_FITS.keys())
@pytest.mark.parametrize("first", ["before us", "after us"])
def test_what_fits_our_statements_better_than_the_servers_own_is_not_called(
    owner, mallory, ours: Settings, redis: Redis, statements: str, first: str
) -> None:
    if first == "after us":
        VoteTable(owner).install()
    mallory.execute(statements)
    count_votes(ours, redis)
    assert is_plain(owner)
