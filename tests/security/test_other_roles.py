"""Other roles of the database stay what they are, where they may create beside `votes` as everybody might in
PostgreSQL 14: on the embedded server and on Debian's.

Each attack lets a plain role become superuser if anything that it made runs with the rights of our login.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from voting.clients import Clients
from voting.database.ownership import NotOurs
from voting.database.roles import Role
from voting.database.vote_table import VoteTable
from voting.ops.operations import operate
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.vote import Vote
from voting.worker.drain import Drain, RunFailed

MALLORY = "mallory"
# What a role gets that may run a statement as our login: itself made superuser, and what it may not read.
LOOT = f"ALTER ROLE {MALLORY} SUPERUSER"
OPEN = f"""
DROP SCHEMA IF EXISTS public CASCADE;
CREATE SCHEMA public;
GRANT ALL ON SCHEMA public TO PUBLIC;
GRANT CREATE ON DATABASE {{database}} TO {MALLORY}
"""


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


# Of a type of mallory's own, whose casts are functions of its own. The one is called, the other only planned: what is
# constant in a function is computed where the statement that names it is planned, even if it is never run.
TYPE = "CREATE TYPE public.choice AS ENUM ('a', 'b', 'c'); GRANT USAGE ON TYPE public.choice TO PUBLIC"
CALLED = f"""
CREATE FUNCTION public.own(c public.choice) RETURNS {{to}} LANGUAGE plpgsql AS $$ BEGIN
    {LOOT}; RETURN 'a';
EXCEPTION WHEN insufficient_privilege OR read_only_sql_transaction THEN RETURN 'a';
END $$;
CREATE CAST (public.choice AS {{to}}) WITH FUNCTION public.own(public.choice) AS IMPLICIT
"""
# Called immutable, it is run where a statement is planned; what it calls may write.
LOOTS = f"""
CREATE FUNCTION public.grab() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    {LOOT};
EXCEPTION WHEN insufficient_privilege OR read_only_sql_transaction THEN NULL;
END $$;
CREATE FUNCTION public.loot(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM public.grab(); RETURN t;
END $$;
CREATE FUNCTION public.fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM public.grab(); RETURN NEW;
END $$;
"""
PLANNED = f"""
{LOOTS}
CREATE FUNCTION public.own(c public.choice) RETURNS {{to}} LANGUAGE sql IMMUTABLE
    AS $$ SELECT CASE WHEN c IS NULL THEN public.loot('x')::{{to}} ELSE 'a' END $$;
CREATE CAST (public.choice AS {{to}}) WITH FUNCTION public.own(public.choice) AS IMPLICIT
"""
WRITES = (
    "INSERT INTO votes VALUES ('x', 'a'), ('y', 'b')",
    "UPDATE votes SET vote = 'b'",
    "DELETE FROM votes WHERE id = 'x'",
    "TRUNCATE votes",
    "INSERT INTO votes VALUES ('x', 'a')",
)


@pytest.mark.parametrize("to", ["varchar", "text"])
@pytest.mark.parametrize("cast", [CALLED, PLANNED], ids=["called", "planned"])
@pytest.mark.parametrize("column", ["public.choice", "public.narrow"], ids=["the type", "a domain of it"])
@pytest.mark.parametrize("is_late", [False, True], ids=["from the start", "later"])
def test_a_cast_of_the_type_of_the_column_is_not_called(
    owner, mallory, ours: Settings, to: str, cast: str, column: str, is_late: bool
) -> None:
    """Somebody else writes the rows, and the tally follows: our triggers, a count of the rows, and a repair."""
    mallory.execute(TYPE)
    mallory.execute("CREATE DOMAIN public.narrow AS public.choice")
    mallory.execute(cast.format(to=to))
    owner.execute(f"CREATE TABLE votes (id text NOT NULL UNIQUE, vote {'text' if is_late else column} NOT NULL)")
    clients = Clients(ours)
    table = VoteTable(clients.postgres())
    table.install()
    if is_late:  # as the owner of the table may at any time, if it is not us
        owner.execute(WRITES[0])
        owner.execute(f"TRUNCATE votes; ALTER TABLE votes ALTER COLUMN vote TYPE {column} USING NULL")
    for statement in WRITES:
        owner.execute(statement)
        assert table.verify(repair=True).agrees
        assert table.count() == table.tally().counts
    owner.execute("UPDATE voting.vote_tally SET votes = 7")
    assert table.verify(repair=True).repaired
    owner.execute("DROP SCHEMA voting CASCADE")
    table.install()
    assert table.tally().counts == {"a": 1}
    clients.close()
    assert is_plain(owner)


OWNED = "CREATE TABLE public.votes (id varchar(255) NOT NULL UNIQUE, vote varchar(255) NOT NULL)"
# What the owner of `votes` may put on it that would run within the triggers' functions.
ON_THE_TABLE = {
    "a policy": "ALTER TABLE votes ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON votes USING (public.loot('x') = 'x')",
    "an index": "CREATE INDEX ON votes ((public.loot('x')))",
    "a check": "ALTER TABLE votes ADD CHECK (public.loot('x') = 'x')",
    "a default": "ALTER TABLE votes ADD more text DEFAULT public.loot('x')",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON votes FOR EACH ROW EXECUTE FUNCTION public.fired()",
    "a generated column": "ALTER TABLE votes ADD more text GENERATED ALWAYS AS (public.loot('x')) STORED",
    "a domain with a check": "CREATE DOMAIN public.checked AS varchar(255) CHECK (public.loot(VALUE) = VALUE); "
    "ALTER TABLE votes ALTER COLUMN vote TYPE public.checked",
}


@pytest.mark.parametrize("addition", ON_THE_TABLE.values(), ids=ON_THE_TABLE.keys())
def test_what_the_owner_of_the_table_puts_on_it_does_not_run_within_our_triggers(owner, mallory, addition: str) -> None:
    """The owner writes itself, so that nothing but our functions runs with our rights."""
    mallory.execute(OWNED)
    VoteTable(owner).install()
    mallory.execute(LOOTS + addition)
    mallory.execute("INSERT INTO votes (id, vote) VALUES ('x', 'a'), ('y', 'b'), ('z', 'b')")
    mallory.execute("UPDATE votes SET vote = 'b' WHERE id = 'x'; DELETE FROM votes WHERE id = 'y'")
    assert VoteTable(owner).tally().counts == {"b": 2}
    assert is_plain(owner)


def test_our_functions_are_no_triggers_of_others(owner, mallory) -> None:
    """Else mallory would count on a table of its own."""
    VoteTable(owner).install()
    mallory.execute("CREATE TABLE public.more (vote text)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        mallory.execute(
            "CREATE TRIGGER t AFTER INSERT ON public.more REFERENCING NEW TABLE AS new_votes "
            "FOR EACH STATEMENT EXECUTE FUNCTION voting.vote_tally_apply()"
        )


TALLY = "vote_tally (vote varchar(255) PRIMARY KEY, votes bigint NOT NULL)"
TRIGGER = f"""
{LOOTS}
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON {{table}} FOR EACH ROW EXECUTE FUNCTION public.fired();
"""
FENCE = "vote_worker_fence (one boolean PRIMARY KEY DEFAULT true, token bigint NOT NULL)"
VERSION = "vote_tally_version (one boolean PRIMARY KEY DEFAULT true, version bigint NOT NULL)"
PLANTED = {
    "a tally": (f"CREATE TABLE public.{TALLY};" + TRIGGER.format(table="public.vote_tally"), "public.vote_tally"),
    "a version": (f"CREATE TABLE public.{VERSION};" + TRIGGER.format(table="vote_tally_version"), "vote_tally_version"),
    "a fence": (f"CREATE TABLE public.{FENCE};" + TRIGGER.format(table="vote_worker_fence"), "vote_worker_fence"),
    "a view": (f"{LOOTS} CREATE VIEW public.vote_tally AS SELECT public.loot('x') AS vote, 1 AS votes", "vote_tally"),
    "a function": (calls("vote_tally_moved()", "boolean", "true"), "the function public.vote_tally_moved"),
    "a schema": ("CREATE SCHEMA voting", "the schema voting"),
    "a schema with a tally": (
        f"CREATE SCHEMA voting; CREATE TABLE voting.{TALLY}; GRANT ALL ON SCHEMA voting TO PUBLIC;"
        + TRIGGER.format(table="voting.vote_tally"),
        "the schema voting",
    ),
}


@pytest.mark.parametrize(("statements", "named"), PLANTED.values(), ids=PLANTED.keys())
def test_nothing_is_installed_over_what_another_role_made(
    owner, mallory, ours: Settings, redis: Redis, statements: str, named: str
) -> None:
    mallory.execute(statements)
    clients = Clients(ours, redis_retries=0, role=Role.WORKER)
    VoteQueue(clients.redis()).push(Vote("a", "x"))
    with pytest.raises(NotOurs, match=f"{named} belongs to {MALLORY}"):
        VoteTable(clients.postgres()).install()
    turns = iter([60.0, 60.0])
    with pytest.raises(RunFailed, match=f"{named} belongs to {MALLORY}"):
        Drain(clients, lambda: next(turns, 0.0), lambda: None).run()
    answer = operate(clients, {"operation": "preflight", "watch_s": 0.1})
    assert any(f"{named} belongs to {MALLORY}" in problem for problem in answer["problems"]), answer
    assert is_plain(owner)
    assert VoteQueue(clients.redis()).length() == 1  # it waits

    mallory.execute(f"DROP OWNED BY {MALLORY} CASCADE")
    assert Drain(clients, lambda: 60.0 if VoteQueue(clients.redis()).length() else 0.0, lambda: None).run().stored == 1
    clients.close()


@pytest.mark.parametrize(
    ("change", "oddity"),
    [
        ("GRANT CREATE ON SCHEMA voting TO PUBLIC", "others may create in it"),
        ("CREATE RULE r AS ON UPDATE TO voting.vote_tally DO ALSO SELECT 1", "it has rules"),
        ("ALTER TABLE voting.vote_tally ENABLE ROW LEVEL SECURITY", "it has row-level security"),
        (
            LOOTS + "CREATE TRIGGER t BEFORE INSERT ON voting.vote_tally FOR EACH ROW EXECUTE FUNCTION public.fired()",
            "it has triggers",
        ),
    ],
)
def test_an_installation_that_was_changed_is_not_trusted(owner, ours: Settings, change: str, oddity: str) -> None:
    VoteTable(owner).install()
    owner.execute(change)
    with pytest.raises(NotOurs, match=oddity):
        Clients(ours, role=Role.READER).postgres()


def test_what_another_role_plants_beside_an_installation_stops_nothing(
    owner, mallory, ours: Settings, redis: Redis
) -> None:
    VoteTable(owner).install()
    for statements, _ in list(PLANTED.values())[:3]:
        mallory.execute(statements.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    count_votes(ours, redis)
    assert is_plain(owner)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("SELECT", "PUBLIC may create in the schema public"),
        (f"REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO {MALLORY}", f"{MALLORY} may create"),
        (f"{OWNED}; ALTER TABLE votes OWNER TO {MALLORY}", f"code of {MALLORY} runs with each vote as our"),
    ],
)
def test_preflight_tells_of_roles_that_are_not_ours(owner, ours: Settings, redis, change: str, what: str) -> None:
    owner.execute(change)
    clients = Clients(ours)
    answer = operate(clients, {"operation": "preflight", "watch_s": 0.1})
    assert any(what in problem for problem in answer["problems"]), answer
    clients.close()


def test_preflight_has_nothing_to_tell_where_the_schema_is_closed(owner, ours: Settings, redis) -> None:
    owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    VoteTable(owner).install()
    clients = Clients(ours)
    answer = operate(clients, {"operation": "preflight", "watch_s": 0.1})
    assert not [problem for problem in answer["problems"] if "create" in problem or "belongs" in problem]
    clients.close()


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_triggers_of_others_find_their_tables_in_schemas_that_are_closed(
    owner, ours: Settings, redis: Redis, is_open: bool
) -> None:
    """They run in our sessions, whose search path leaves out a schema in which other roles may create."""
    if not is_open:
        owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    VoteTable(owner).install()
    owner.execute("CREATE TABLE audit (id text)")
    owner.execute(
        "CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END'; GRANT ALL ON audit TO PUBLIC;"
        "CREATE TRIGGER audited AFTER INSERT ON votes FOR EACH ROW EXECUTE FUNCTION audited()"
    )
    clients = Clients(ours, role=Role.WORKER)
    table = VoteTable(clients.postgres())
    token = table.take_fence()
    if is_open:
        with pytest.raises(psycopg.errors.UndefinedTable):
            table.record([Vote("a", "x")], token)
        owner.execute("ALTER FUNCTION audited() SET search_path = pg_catalog, public, pg_temp")
    assert table.record([Vote("a", "x")], token) == 1
    clients.close()
