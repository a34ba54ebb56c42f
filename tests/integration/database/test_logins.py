"""The owner of `votes` is another role than ours: what its code gets of us, with a login for each job.

Covers logins, ownership, credentials and provisioning.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.conftest import ROOT
from tests.deployment import LOGINS, MASTER, OWNER, Deployment, drop_role
from voting.clients import Clients
from voting.database.logins import Login, Logins, LoginTooPowerful
from voting.database.roles import Role
from voting.database.vote_table import VoteTable
from voting.ops.operations import operate
from voting.ops.preflight.inspect import inspect
from voting.ops.provisioning import install, logins_of
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.vote import Vote
from voting.worker.drain import Drain, RunFailed

TABLE = f"""
CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL);
ALTER TABLE votes OWNER TO {OWNER};
CREATE TABLE another_app (secret text); INSERT INTO another_app VALUES ('theirs');
ALTER TABLE another_app OWNER TO {MASTER};
CREATE TABLE loot (what text); ALTER TABLE loot OWNER TO {OWNER}; GRANT ALL ON loot TO PUBLIC;
"""
# Whatever can be had is noted in `loot`, a table of the attacker's; the vote itself goes through.
ATTACK = """
CREATE FUNCTION attack() RETURNS {returns} LANGUAGE plpgsql AS $attack$
DECLARE
    attempt text;
BEGIN
    {leave};
    FOREACH attempt IN ARRAY ARRAY[
        'ALTER ROLE {owner} SUPERUSER', 'ALTER ROLE {owner} CREATEROLE', 'ALTER ROLE {owner} BYPASSRLS',
        'CREATE ROLE accomplice LOGIN SUPERUSER', 'GRANT {master} TO {owner}', 'GRANT pg_read_all_data TO {owner}',
        'SELECT rolpassword FROM pg_authid', 'SET ROLE {master}', 'SELECT secret FROM public.another_app',
        'UPDATE public.another_app SET secret = ''mine''', 'ALTER ROLE {master} PASSWORD ''mine''',
        'COPY public.loot TO PROGRAM ''id''', 'SELECT pg_read_file(''postgresql.conf'')',
        'CREATE DATABASE mine', 'ALTER TABLE public.another_app OWNER TO {owner}'
    ] LOOP
        BEGIN
            EXECUTE attempt;
            INSERT INTO public.loot VALUES (attempt);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    RETURN {value};
END
$attack$;
"""
LEAVES = {
    "reset role": "RESET ROLE",
    "set role none": "SET ROLE NONE",
    "set_config": "PERFORM set_config('role', 'none', false)",
    "session authorization": "BEGIN SET SESSION AUTHORIZATION DEFAULT; EXCEPTION WHEN OTHERS THEN RESET ROLE; END",
    "to the master": f"BEGIN SET SESSION AUTHORIZATION {MASTER}; EXCEPTION WHEN OTHERS THEN RESET ROLE; END",
    "discard": "RESET ALL; RESET ROLE; RESET SESSION AUTHORIZATION",
}
BEARERS = {
    "trigger": (
        "trigger",
        "NEW",
        "CREATE TRIGGER attack BEFORE INSERT ON votes FOR EACH ROW EXECUTE FUNCTION attack()",
    ),
    "check": ("boolean", "true", "ALTER TABLE votes ADD CHECK (attack())"),
}


@pytest.fixture(params=["embedded", "debian"])
def database_url(request: pytest.FixtureRequest, database_url: str) -> str:
    """The embedded server, and Debian's, which is older: what a role may do there differs."""
    return database_url if request.param == "embedded" else request.getfixturevalue("debian_url")


@pytest.fixture
def opened(deployment: Deployment) -> Iterator[Callable[[str], Clients]]:
    """Open clients as the function of a job has them."""
    made: list[Clients] = []

    def opened(job: str) -> Clients:
        made.append(deployment.clients(job))
        return made[-1]

    yield opened
    for clients in made:
        clients.close()


def drain(clients: Clients) -> int:
    queue = VoteQueue(clients.redis())
    return Drain(clients, lambda: 60.0 if queue.length() else 0.0, lambda: None).run().stored


def spoil(deployment: Deployment, leave: str, bearer: str) -> None:
    returns, value, bear = BEARERS[bearer]
    attack = ATTACK.format(returns=returns, value=value, leave=LEAVES[leave], owner=OWNER, master=MASTER)
    deployment.superuser.execute(f"SET ROLE {OWNER}; {attack} {bear}; RESET ROLE")


def loot(deployment: Deployment) -> list[str]:
    return [what for (what,) in deployment.superuser.execute("SELECT what FROM loot").fetchall()]


@pytest.mark.parametrize("bearer", BEARERS)
@pytest.mark.parametrize("leave", LEAVES)
def test_the_owner_of_the_table_gets_nothing_of_the_workers_login(
    deployment: Deployment, opened, redis: Redis, leave: str, bearer: str
) -> None:
    deployment.superuser.execute(TABLE)
    install(opened("operator"))
    spoil(deployment, leave, bearer)
    worker = opened("worker")
    VoteQueue(worker.redis()).push(Vote(voter_id="x", choice="a"))
    assert drain(worker) == 1
    assert loot(deployment) == []
    assert not any(deployment.powers_of(OWNER))
    assert deployment.superuser.execute("SELECT secret FROM another_app").fetchone() == ("theirs",)


def test_the_same_code_takes_all_where_the_worker_is_the_master(deployment: Deployment, opened, redis: Redis) -> None:
    """What the test above holds is due to the logins."""
    deployment.superuser.execute(TABLE)
    install(opened("operator"))
    spoil(deployment, "reset role", "trigger")
    master = Clients(
        Settings({**deployment.env("worker"), "DATABASE_SECRET_ARN": deployment.arns["owner"]}), role=Role.WORKER
    )
    VoteQueue(master.redis()).push(Vote(voter_id="x", choice="a"))
    assert drain(master) == 1
    assert "SELECT secret FROM public.another_app" in loot(deployment)
    master.close()


def test_installing_runs_no_code_of_the_tables_owner(deployment: Deployment, opened) -> None:
    """Row-level security calls the owner's functions with the rights of whoever reads: of the master, it would."""
    deployment.superuser.execute(TABLE)
    deployment.superuser.execute("INSERT INTO votes VALUES ('x', 'a')")
    attack = ATTACK.format(returns="boolean", value="true", leave="NULL", owner=OWNER, master=MASTER)
    policy = "CREATE POLICY attack ON votes USING (attack()); ALTER TABLE votes FORCE ROW LEVEL SECURITY"
    enable = "ALTER TABLE votes ENABLE ROW LEVEL SECURITY"
    deployment.superuser.execute(f"SET ROLE {OWNER}; {attack} {enable}; {policy}; RESET ROLE")
    answer = operate(opened("operator"), {"operation": "install"})
    assert answer["error"]["code"] == "postgres_refused"
    assert "row-level security" in answer["error"]["message"]
    assert loot(deployment) == []
    assert not any(deployment.powers_of(OWNER))


# ---------------------------------------------------------------- what each login may do


WORK = {
    "worker": {Role.WORKER, Role.OPERATOR},
    "reader": {Role.READER},
    "operator": {Role.OPERATOR},
}


@pytest.mark.parametrize("job", WORK)
def test_a_login_is_a_plain_member_of_the_roles_of_its_job(deployment: Deployment, opened, job: str) -> None:
    install(opened("operator"))
    query = """
        SELECT roleid::regrole::text FROM pg_auth_members
        WHERE member = to_regrole(quote_ident(%s)) AND NOT admin_option
    """
    assert {role for (role,) in deployment.superuser.execute(query, (LOGINS[job],)).fetchall()} == WORK[job]
    assert not any(deployment.powers_of(LOGINS[job]))
    session = opened(job).postgres()
    assert session.execute("SELECT session_user::text, current_user::text").fetchone() == (
        LOGINS[job],
        f"voting_{job}",
    )


def test_the_jobs_are_done_with_these_logins(deployment: Deployment, opened, redis: Redis) -> None:
    install(opened("operator"))
    worker = opened("worker")
    VoteQueue(worker.redis()).push(Vote(voter_id="x", choice="a"))
    assert drain(worker) == 1
    assert VoteTable(opened("reader").postgres()).tally().counts == {"a": 1}
    for event in (
        {"operation": "status", "count": True},
        {"operation": "tally verify", "repair": True},
        {"operation": "handback"},
        {"operation": "takeover", "force": True},
        {"operation": "indexes"},
        {"operation": "preflight", "watch_s": 0.1},
    ):
        answer = operate(opened("operator"), event)
        assert answer["ok"], answer


def test_a_run_repairs_the_tally_with_its_own_login(deployment: Deployment, opened, redis: Redis) -> None:
    install(opened("operator"))
    worker = opened("worker")
    VoteQueue(worker.redis()).push(Vote(voter_id="x", choice="a"))
    drain(worker)
    restored = "SET session_replication_role = replica; TRUNCATE votes; SET session_replication_role = origin"
    deployment.superuser.execute(restored)
    VoteQueue(worker.redis()).push(Vote(voter_id="y", choice="b"))
    drain(opened("worker"))
    assert VoteTable(opened("reader").postgres()).tally().counts == {"b": 1}


def test_the_table_is_found_where_the_installing_login_finds_it(deployment: Deployment, opened, redis: Redis) -> None:
    deployment.superuser.execute(f"CREATE SCHEMA elsewhere AUTHORIZATION {MASTER}")
    deployment.superuser.execute(f"ALTER ROLE {MASTER} SET search_path = elsewhere")
    try:
        install(opened("operator"))
        worker = opened("worker")
        VoteQueue(worker.redis()).push(Vote(voter_id="x", choice="a"))
        assert drain(worker) == 1
        assert deployment.superuser.execute("SELECT count(*) FROM elsewhere.votes").fetchone() == (1,)
        assert VoteTable(opened("reader").postgres()).tally().counts == {"a": 1}
    finally:
        deployment.superuser.execute("DROP SCHEMA elsewhere CASCADE")


def test_a_worker_that_may_not_install_says_who_may(deployment: Deployment, opened, redis: Redis) -> None:
    install(opened("operator"))
    deployment.superuser.execute("DROP TRIGGER vote_tally_insert ON votes")
    worker = opened("worker")
    VoteQueue(worker.redis()).push(Vote(voter_id="x", choice="a"))
    ends = iter([60.0, 60.0, 0.0])
    with pytest.raises(RunFailed, match="run `votectl ops install`"):
        Drain(worker, lambda: next(ends), lambda: None).run()
    assert operate(opened("operator"), {"operation": "install"})["installed"] is True
    assert drain(opened("worker")) == 1


def test_while_another_worker_drains_a_deployment_makes_logins_and_no_tables(
    deployment: Deployment, opened, redis: Redis
) -> None:
    deployment.superuser.execute(TABLE)
    operator = opened("operator")
    VoteQueue(operator.redis()).stop_claims()
    answer = operate(operator, {"operation": "install", "unless_handed_back": True})
    assert (answer["installed"], sorted(answer["created"])) == (False, sorted(LOGINS.values()))
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'votes'::regclass AND NOT tgisinternal"
    assert deployment.superuser.execute(triggers).fetchone() == (0,)
    assert operate(opened("operator"), {"operation": "preflight", "watch_s": 0.1})["ok"]
    assert operate(opened("operator"), {"operation": "takeover", "force": True})["changed"] is True
    worker = opened("worker")
    VoteQueue(worker.redis()).push(Vote(voter_id="x", choice="a"))
    assert drain(worker) == 1


# ---------------------------------------------------------------- making them


def test_a_password_never_reaches_the_server_nor_its_log(deployment: Deployment, opened, tmp_path: Path) -> None:
    operator = opened("operator")
    session = operator.owner().postgres()
    with (tmp_path / "sent").open("wb") as sent:
        session.pgconn.trace(sent.fileno())
        install(operator)
        session.pgconn.untrace()
    text = (tmp_path / "sent").read_text()
    assert text.count("SCRAM-SHA-256$") >= len(LOGINS)
    assert not [password for password in deployment.passwords() if password in text]


def test_a_changed_secret_is_the_password_after_the_step_and_open_clients_fetch_it(
    deployment: Deployment, opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(opened("operator"))
    worker = opened("worker")
    assert worker.postgres()
    deployment.keep("worker", LOGINS["worker"], "the second")
    install(opened("operator"))
    worker.forget_postgres()
    monkeypatch.setattr("voting.database.credentials.SECRET_KEPT_S", 0.0)  # some time later
    assert worker.postgres().execute("SELECT 1").fetchone() == (1,)


def test_what_a_trigger_changed_of_a_login_is_undone_by_the_step(deployment: Deployment, opened) -> None:
    """A role may change its own password and settings, and so may code that runs as it."""
    install(opened("operator"))
    session = opened("worker").postgres()
    session.execute("RESET ROLE")
    session.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'; ALTER ROLE CURRENT_USER SET search_path = mine")
    install(opened("operator"))
    left = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = to_regrole(quote_ident(%s))"
    assert deployment.superuser.execute(left, (LOGINS["worker"],)).fetchall() == [(["search_path=public, pg_temp"],)]
    assert opened("worker").postgres()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("CREATEDB", "may create databases"),
        ("BYPASSRLS", "passes row-level security"),
        ("SUPERUSER", ""),  # RDS's master may not even touch it
    ],
)
def test_a_login_that_has_more_is_refused(deployment: Deployment, opened, given: str, told: str) -> None:
    deployment.superuser.execute(f'CREATE ROLE "{LOGINS["worker"]}" {given}')
    deployment.superuser.execute(f'GRANT "{LOGINS["worker"]}" TO {MASTER} WITH ADMIN OPTION')
    answer = operate(opened("operator"), {"operation": "install"})
    assert not answer["ok"]
    assert told in answer["error"]["message"]


def test_a_login_that_belongs_to_another_role_is_refused(database: psycopg.Connection, deployment: Deployment) -> None:
    login = Login(LOGINS["reader"], "secret", (Role.READER,))
    Logins(database).ensure([login])
    database.execute(f'GRANT pg_read_all_data TO "{login.name}"')
    with pytest.raises(LoginTooPowerful, match=f"{login.name} belongs to pg_read_all_data"):
        Logins(database).ensure([login])


def test_an_owner_that_may_not_create_roles_is_told(deployment: Deployment, opened) -> None:
    deployment.superuser.execute(f"ALTER ROLE {MASTER} NOCREATEROLE")
    answer = operate(opened("operator"), {"operation": "install"})
    assert answer["error"]["code"] == "postgres_refused"
    assert "create role" in answer["error"]["message"]


# ---------------------------------------------------------------- preflight


def found(clients: Clients) -> list[tuple[str, str]]:
    findings = inspect(clients, watch_s=0.1)
    return [(one.level, one.what) for one in findings if one.what.startswith(("code of", "there is no login"))]


def test_preflight_finds_a_powerful_login_that_runs_the_code_of_others(
    deployment: Deployment, opened, redis: Redis
) -> None:
    deployment.superuser.execute(TABLE)
    owner = {"DATABASE_SECRET_ARN": deployment.arns["owner"]}
    shared = Clients(Settings({**deployment.env("reader"), **owner}), role=Role.OPERATOR)
    ((level, what),) = found(shared)
    assert level == "problem"
    assert f"code of {OWNER} runs with each vote as our login {MASTER}, which may create databases" in what
    assert "may create roles" in what
    assert "owns the table another_app" in what
    shared.close()


def test_preflight_finds_plain_logins_well(deployment: Deployment, opened, redis: Redis) -> None:
    deployment.superuser.execute(TABLE)
    install(opened("operator"))
    assert [level for level, _ in found(opened("operator"))] == ["ok"]


def test_preflight_takes_the_login_that_installs_for_no_stranger(deployment: Deployment, opened, redis: Redis) -> None:
    install(opened("operator"))  # the table is the master's
    assert found(opened("operator")) == []


def test_preflight_counts_the_owner_of_a_triggers_function_as_a_stranger(
    deployment: Deployment, opened, redis: Redis
) -> None:
    install(opened("operator"))  # the table is the master's
    deployment.superuser.execute(
        f"CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        f"ALTER FUNCTION theirs() OWNER TO {OWNER};"
        "CREATE TRIGGER theirs BEFORE INSERT ON votes FOR EACH ROW EXECUTE FUNCTION theirs()"
    )
    ((level, what),) = found(opened("operator"))
    assert (level, OWNER in what) == ("ok", True)


def test_preflight_finds_a_login_that_is_not_there(deployment: Deployment, opened, redis: Redis) -> None:
    deployment.superuser.execute(TABLE)
    assert ("problem", f"there is no login {LOGINS['reader']} yet") in found(opened("operator"))


def test_preflight_looks_at_the_table_before_there_are_logins(deployment: Deployment, opened, redis: Redis) -> None:
    """It must not say that a password is wrong either: nobody has that login yet."""
    deployment.superuser.execute(TABLE)
    told = [one.what for one in inspect(opened("operator"), watch_s=0.1)]
    assert "the column id is unique" in told
    assert not [what for what in told if "cannot be inspected" in what]


def test_a_login_made_by_hand_as_the_guide_says_serves_all_functions(
    deployment: Deployment, settings: Settings, redis: Redis
) -> None:
    deployment.superuser.execute(TABLE)
    scheme, _, rest = settings.database_url.partition("://")
    address = rest.rpartition("@")[2]
    owner = Clients(Settings({**settings.env, "DATABASE_URL": f"{scheme}://{MASTER}:of-the-master@{address}"}))
    assert operate(owner, {"operation": "install"})["installed"] is True
    guide = (ROOT / "docs/guides/deploy.md").read_text()
    (statements,) = (block for block in re.findall(r"```sql\n(.*?)```", guide, re.DOTALL) if "CREATE ROLE" in block)
    login = "voting_test_app"
    deployment.superuser.execute(statements.replace("voting_app", login).replace("the_owner", MASTER))
    shared = Settings({**settings.env, "DATABASE_URL": f"{scheme}://{login}:a%20long%20one@{address}"})
    worker, operator = (Clients(shared, redis_retries=0, role=role) for role in (Role.WORKER, Role.OPERATOR))
    VoteQueue(worker.redis()).push(Vote(voter_id="x", choice="a"))
    assert drain(worker) == 1
    levels = {one.what: one.level for one in inspect(operator, watch_s=0.1)}
    assert [what for what, level in levels.items() if level == "problem" and "our " in what] == []
    assert levels[f"code of {OWNER} runs with each vote, as a login of ours that has no other rights"] == "ok"
    for made in (worker, operator, owner):
        made.close()
    drop_role(deployment.superuser, login)


def test_where_everything_belongs_to_one_login_nothing_is_found(
    clients: Clients, database: psycopg.Connection, redis: Redis
) -> None:
    VoteTable(database).install()
    assert found(clients) == []


def test_functions_with_one_login_have_no_others(settings: Settings) -> None:
    assert logins_of(settings) == []
