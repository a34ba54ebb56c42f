"""What a session of each function may do in the database, and what it may do with other logins than our own.

Covers roles, limits, catalogue and location.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from voting.clients import Clients
from voting.database.catalogue import Catalogue
from voting.database.roles import RIGHTS, Role, grant
from voting.database.vote_table import VoteTable
from voting.ops.operations import operate
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.vote import Vote
from voting.worker.drain import Counted, Drain

Open = Callable[..., Clients]
MASTER = "rds_master"


@pytest.fixture
def opened(settings: Settings) -> Iterator[Open]:
    """Open clients of a role, with a login of their own where one is named."""
    with ExitStack() as closing:

        def opened(role: Role | None, login: str | None = None) -> Clients:
            env = dict(settings.env)
            if login is not None:
                env["DATABASE_URL"] = as_url(settings.database_url, login)
            clients = Clients(Settings(env), redis_retries=0, role=role)
            closing.callback(clients.close)
            return clients

        yield opened


def as_url(url: str, login: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{login}:pw@{rest.rpartition('@')[2]}"


@pytest.fixture
def master(without_roles: psycopg.Connection) -> Iterator[str]:
    """A login as RDS's master user is: it may create roles and schemas, owns the schema, and is no superuser."""
    drop_login(without_roles, MASTER)
    without_roles.execute(f"CREATE ROLE {MASTER} LOGIN CREATEROLE PASSWORD 'pw'; ALTER SCHEMA public OWNER TO {MASTER}")
    without_roles.execute(f"GRANT CREATE ON DATABASE postgres TO {MASTER}")
    yield MASTER
    without_roles.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS voting CASCADE")
    for role in Role:
        if without_roles.execute("SELECT to_regrole(%s)", (role,)).fetchone() != (None,):
            without_roles.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    drop_login(without_roles, MASTER)


def drop_login(database: psycopg.Connection, login: str) -> None:
    if database.execute("SELECT to_regrole(%s)", (login,)).fetchone() != (None,):
        database.execute(f"DROP OWNED BY {login} CASCADE; DROP ROLE {login}")


def role_of(clients: Clients) -> str:
    (name,) = clients.postgres().execute("SELECT current_user").fetchone()
    return name


def install(clients: Clients) -> None:
    VoteTable(clients.postgres()).install()
    assert grant(clients.postgres())


def push(clients: Clients, voters: int) -> None:
    for number in range(voters):
        VoteQueue(clients.redis()).push(Vote(voter_id=f"voter-{number}", choice="a"))


def drain(clients: Clients, changed: Callable[[], None] = lambda: None) -> Counted:
    """Run until the list is empty."""
    queue = VoteQueue(clients.redis())
    return Drain(clients, lambda: 60.0 if queue.length() else 0.0, changed, wait_s=0.02).run()


REFUSED = {
    Role.WORKER: [
        "DELETE FROM public.votes",
        "TRUNCATE public.votes",
        "DROP TABLE public.votes",
        "ALTER TABLE public.votes ADD more int",
        "ALTER TABLE public.votes DISABLE TRIGGER ALL",
        "UPDATE voting.vote_tally SET votes = 9",
        "DELETE FROM voting.vote_worker_fence",
        "CREATE TABLE public.more (x int)",
    ],
    Role.READER: ["SELECT id FROM public.votes", "SELECT token FROM voting.vote_worker_fence"],
    Role.OPERATOR: [
        "UPDATE public.votes SET vote = 'b'",
        "DELETE FROM public.votes",
        "TRUNCATE public.votes",
        "CREATE TABLE public.more (x int)",
    ],
}


@pytest.mark.parametrize(("role", "statement"), [(role, text) for role, texts in REFUSED.items() for text in texts])
def test_a_session_is_refused_what_its_job_does_not_need(
    without_roles, opened: Open, role: Role, statement: str
) -> None:
    install(opened(None))
    clients = opened(role)
    assert role_of(clients) == role
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        clients.postgres().execute(statement)


def test_a_login_without_a_role_would_not_be_refused(without_roles, opened: Open) -> None:
    """What the test above holds of the sessions is due to the roles."""
    install(opened(None))
    for statement in REFUSED[Role.WORKER][:2]:
        opened(None).postgres().execute(statement)


def test_the_rights_suffice_for_the_run_of_a_worker(without_roles, opened: Open, redis) -> None:
    clients = opened(Role.WORKER)
    push(clients, 3)
    roles: list[str] = []
    assert drain(clients, lambda: roles.append(role_of(clients))).stored == 3
    assert roles[-1] == Role.WORKER  # from the first run on, whose first session was older than the role
    VoteTable(clients.postgres()).outgrow(1)
    assert VoteTable(opened(Role.READER).postgres()).tally().counts == {"a": 3}


ASKED: list[tuple[dict[str, object], dict[str, object]]] = [
    ({"operation": "status", "count": True}, {}),
    ({"operation": "tally verify", "repair": True}, {"repaired": True, "counted": {"a": 1}}),
    ({"operation": "dead requeue"}, {"requeued": 0}),
    ({"operation": "handback"}, {"changed": True}),
    ({"operation": "takeover", "force": True}, {"changed": False}),
    ({"operation": "indexes"}, {"indexes": {"idx_votes_id": "built", "idx_votes_vote": "was there"}}),
    ({"operation": "preflight", "watch_s": 0.1}, {}),
]


@pytest.mark.parametrize(("event", "told"), ASKED, ids=lambda value: value.get("operation", ""))
def test_the_rights_suffice_for_what_an_operator_asks(without_roles, opened: Open, redis, event, told) -> None:
    install(opened(None))
    without_roles.execute("INSERT INTO votes VALUES ('x', 'a')")
    if event.get("repair"):
        without_roles.execute("UPDATE vote_tally SET votes = 7")
    if event["operation"] == "indexes":
        without_roles.execute("DROP INDEX idx_votes_id")
    clients = opened(Role.OPERATOR)
    assert role_of(clients) == Role.OPERATOR
    answer = operate(clients, event)
    assert answer["ok"], answer
    assert answer.items() >= told.items()


def test_a_master_user_that_is_no_superuser_makes_the_roles_and_takes_them(master: str, opened: Open) -> None:
    install(opened(None, master))
    for role in Role:
        assert role_of(opened(role, master)) == role
    assert VoteTable(opened(Role.WORKER, master).postgres()).take_fence() == 1


def test_a_login_that_may_grant_nothing_keeps_its_rights_and_works(
    master: str, without_roles, opened: Open, redis
) -> None:
    without_roles.execute(f"ALTER ROLE {master} NOCREATEROLE")
    clients = opened(Role.WORKER, master)
    push(clients, 1)
    assert drain(clients).stored == 1
    assert role_of(clients) == master


def test_roles_that_an_administrator_has_made_are_taken(master: str, without_roles, opened: Open) -> None:
    without_roles.execute(f"ALTER ROLE {master} NOCREATEROLE")
    for role in Role:
        without_roles.execute(f"CREATE ROLE {role}; GRANT {role} TO {master}")
    install(opened(None, master))
    assert role_of(opened(Role.WORKER, master)) == Role.WORKER


def test_a_role_of_somebody_elses_is_not_taken_and_nothing_fails(master: str, without_roles, opened: Open) -> None:
    for role in Role:
        without_roles.execute(f"CREATE ROLE {role}")
    install(opened(None, master))
    assert role_of(opened(Role.WORKER, master)) == master


def test_two_first_runs_at_once_both_end_well(without_roles, opened: Open) -> None:
    VoteTable(opened(None).postgres()).install()
    connections = [opened(None).postgres() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert any(pool.map(grant, connections))
    assert not grant(connections[0])


def test_a_search_path_that_names_the_login_still_finds_the_table(without_roles, opened: Open) -> None:
    (login,) = without_roles.execute("SELECT session_user").fetchone()
    without_roles.execute(f'CREATE SCHEMA "{login}"')
    try:
        install(opened(None))  # into the schema of the login, the first of the path
        clients = opened(Role.WORKER)
        assert role_of(clients) == Role.WORKER
        assert Catalogue(clients.postgres()).table().schema == login
    finally:
        without_roles.execute(f'DROP SCHEMA "{login}" CASCADE')


def test_a_table_that_was_made_anew_is_written_all_the_same(without_roles, opened: Open, redis) -> None:
    """Its rights are gone with it: the session takes no role until the next run has granted them again."""
    clients = opened(Role.WORKER)
    install(clients)
    clients.forget_postgres()
    assert role_of(clients) == Role.WORKER

    without_roles.execute("DROP TABLE vote_worker_fence")
    VoteTable(without_roles).install()
    push(clients, 1)
    assert drain(clients).stored == 1
    clients.forget_postgres()
    assert role_of(clients) == Role.WORKER


@pytest.mark.parametrize("role", Role)
def test_the_rights_of_a_role_are_those_that_are_written_down(without_roles, opened: Open, role: Role) -> None:
    install(opened(None))
    query = "SELECT table_name, privilege_type FROM information_schema.table_privileges WHERE grantee = %s"
    granted = {(table, right) for table, right in without_roles.execute(query, (role,)).fetchall()}
    assert granted == {(table, right) for table, rights in RIGHTS[role].items() for right in rights}
