"""Behind a pooler that hands sessions to its other clients between transactions: it works, and leaves nothing there.

Covers session.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from awslambdaric.lambda_context import LambdaContext
from redis import Redis

from tests.conftest import event
from tests.pooler import pooled
from tests.stack import wait_for
from voting.clients import Clients
from voting.database.kept_session import READERS
from voting.database.roles import Role, grant
from voting.database.session import PoolerUnusable, SettingsRefused
from voting.database.vote_table import VoteTable
from voting.ops.health import Health, check_health
from voting.question import Question
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import DEAD
from voting.queue.vote_queue import VoteQueue
from voting.results.current import read_results
from voting.settings import Settings
from voting.vote import Vote
from voting.worker.drain import STOP_BEFORE_END_S, Counted, Drain

QUESTION = Question.of("", ["Cats", "Dogs"])
Open = Callable[..., Clients]

# Everything of a session that we set anywhere; what another client of the pooler is handed must be untouched.
SEEN = """
SELECT current_user, current_setting('role'), current_setting('search_path'),
       current_setting('default_transaction_read_only'), current_setting('statement_timeout'),
       current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'),
       current_setting('idle_session_timeout'), current_setting('enable_seqscan'), current_setting('client_encoding'),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
       (SELECT count(*) FROM pg_prepared_statements)
"""


class Neighbour:
    """Another client of the pooler, who looks at the session that it is handed, again and again."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self.untouched = self.look()
        self.seen = {self.untouched}
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def look(self) -> tuple[Any, ...]:
        row = self._connection.execute(SEEN).fetchone()
        assert row is not None
        return row

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.seen.add(self.look())
        self._connection.close()

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.seen.add(self.look())
            self.looks += 1


@pytest.fixture(params=["transaction", "session"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def url(database_url: str, mode: str) -> Iterator[str]:
    with pooled(database_url, mode, size=1 if mode == "transaction" else 60) as url:
        yield url


@pytest.fixture
def opened(settings: Settings, url: str) -> Iterator[Open]:
    with ExitStack() as closing:

        def opened(role: Role | None, name: str = "voting", to: str = url) -> Clients:
            clients = Clients(Settings({**settings.env, "DATABASE_URL": to}), redis_retries=0, name=name, role=role)
            closing.callback(clients.close)
            return clients

        yield opened


def push(redis: Redis, voters: int, choice: str = "a") -> None:
    redis.lpush("votes", *(Vote(choice, f"voter-{number}").encode() for number in range(voters)))


def drain(clients: Clients) -> Counted:
    queue = VoteQueue(clients.redis())
    return Drain(clients, lambda: 60.0 if queue.length() else 0.0, lambda: None, wait_s=0.02).run()


def test_the_worker_installs_and_drains_and_its_neighbour_sees_nothing_of_it(
    without_roles: psycopg.Connection, opened: Open, redis: Redis, url: str
) -> None:
    neighbour = Neighbour(url)
    try:
        worker = opened(Role.WORKER)
        push(redis, 3000)  # by COPY
        assert drain(worker).stored == 3000
        push(redis, 500, "b")  # by the upsert
        push(redis, 1500, "b")  # by both
        assert drain(worker).stored == 2000
        assert worker.postgres().is_pooled
        assert worker.postgres().execute("SELECT current_user").fetchone() == (Role.WORKER,)
        for number in range(READERS + 5):  # no slot is needed: the pooler limits the sessions
            reader = opened(Role.READER, "voting-result")
            redis.delete("{votes}:snapshot")
            assert read_results(reader, QUESTION).total == 3000
            assert check_health(reader) == Health("ok", "ok", "ok")
            if number > 1:
                reader.close()
    finally:
        neighbour.close()
    assert neighbour.looks > 10
    assert neighbour.seen == {neighbour.untouched}
    assert VoteTable(without_roles).count() == {"a": 1500, "b": 1500}
    assert not redis.exists(DEAD)


def test_a_neighbour_of_a_login_that_sets_sessions_would_see_it(without_roles, database_url: str) -> None:
    """What the test above holds is due to how we set them."""
    with pooled(database_url, "transaction") as url, psycopg.connect(url, autocommit=True) as careless:
        neighbour = Neighbour(url)
        careless.execute("SET default_transaction_read_only = on; SET lock_timeout = 7")
        careless.execute("SELECT pg_try_advisory_lock(1)")
        neighbour.close()
        assert len(neighbour.seen) > 1


def test_operations_work_and_leave_nothing_behind(
    handler, context, without_roles, opened: Open, redis: Redis, url: str, monkeypatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    handle = handler("ops")

    def ops(operation: str, **arguments: Any) -> dict[str, Any]:
        answer = json.loads(json.dumps(handle({"operation": operation, **arguments}, context)))
        assert answer["ok"], answer
        return answer

    neighbour = Neighbour(url)
    try:
        push(redis, 10)
        drain(opened(Role.WORKER))
        without_roles.execute("UPDATE vote_tally SET votes = 9; DROP INDEX idx_votes_vote")
        redis.rpush(DEAD, DeadLetter("refused_by_database", Vote("b", "silent").encode()).encode())
        assert ops("status", count=True)["tally"]["rows"] == {"a": 10}
        assert ops("tally verify", repair=True)["repaired"]
        assert ops("indexes")["indexes"] == {"idx_votes_id": "was there", "idx_votes_vote": "built"}
        assert any("pooler" in finding["what"] for finding in ops("preflight", watch_s=0.1)["findings"])
        assert ops("dead requeue")["requeued"] == 1
        assert ops("handback")["changed"]
        assert ops("takeover", force=True)["changed"]
        assert drain(opened(Role.WORKER)).stored == 1
    finally:
        neighbour.close()
    assert neighbour.seen == {neighbour.untouched}
    assert VoteTable(without_roles).count() == {"a": 10, "b": 1}


@pytest.mark.parametrize(
    ("role", "statement", "error"),
    [
        (Role.READER, "INSERT INTO public.votes VALUES ('x', 'a')", psycopg.errors.ReadOnlySqlTransaction),
        (Role.READER, "SELECT id FROM public.votes", psycopg.errors.InsufficientPrivilege),
        (Role.WORKER, "DELETE FROM public.votes", psycopg.errors.InsufficientPrivilege),
        (Role.OPERATOR, "UPDATE public.votes SET vote = 'b'", psycopg.errors.InsufficientPrivilege),
    ],
)
def test_each_job_has_its_rights_only(without_roles, opened: Open, role: Role, statement: str, error) -> None:
    VoteTable(without_roles).install()
    grant(without_roles)
    connection = opened(role).postgres()
    with pytest.raises(error):
        connection.execute(statement)
    with pytest.raises(error), connection.transaction():
        connection.execute(statement)
    assert connection.execute("SELECT current_user").fetchone() == (role,)


def test_a_statement_has_its_timeout(without_roles, settings: Settings, url: str) -> None:
    clients = Clients(Settings({**settings.env, "DATABASE_URL": url}), statement_timeout_ms=50)
    with pytest.raises(psycopg.errors.QueryCanceled):
        clients.postgres().execute("SELECT pg_sleep(20)")
    assert clients.postgres().execute("SELECT 1").fetchone() == (1,)
    clients.close()


def test_what_a_neighbour_left_in_the_session_does_not_stop_us(
    without_roles, opened: Open, redis, url: str, mode: str
) -> None:
    careless = psycopg.connect(url, autocommit=True)
    careless.execute("SET default_transaction_read_only = on; SET statement_timeout = 1; SET idle_session_timeout = 0")
    push(redis, 2000)
    assert drain(opened(Role.WORKER)).stored == 2000
    careless.close()


def test_a_role_that_is_dropped_is_no_fault_of_the_votes(without_roles, opened: Open, redis) -> None:
    clients = opened(Role.WORKER)
    push(redis, 1)
    drain(clients)
    without_roles.execute(f"DROP OWNED BY {Role.WORKER}; DROP ROLE {Role.WORKER}")
    with pytest.raises(SettingsRefused):
        VoteTable(clients.postgres()).record([Vote("a", "x")], 1)
    push(redis, 5)
    assert drain(clients).stored == 5
    assert not redis.exists(DEAD)


@pytest.mark.parametrize("voters", [1, 3000])
def test_a_batch_takes_no_round_trip_more_than_without_a_pooler(
    without_roles, opened: Open, database_url, voters
) -> None:
    VoteTable(without_roles).install()
    grant(without_roles)
    votes = [Vote("a", f"voter-{number}") for number in range(voters)]
    trips = []
    for to in ({}, {"to": database_url}):
        connection = opened(Role.WORKER, **to).postgres()
        assert connection.is_pooled is not bool(to)
        table = VoteTable(connection)
        token = table.take_fence()
        without_roles.execute("TRUNCATE votes")
        trips.append(round_trips(connection, lambda table=table, token=token: table.record(votes, token)))
    assert trips[0] == trips[1]


def round_trips(connection: psycopg.Connection, work: Callable[[], object]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        file = os.open(trace, os.O_WRONLY | os.O_CREAT)
        connection.pgconn.trace(file)
        work()
        connection.pgconn.untrace()
        os.close(file)
        return trace.read_text().count("ReadyForQuery")


def test_a_pooler_that_breaks_transactions_apart_is_named(
    handler, context, database_url: str, without_roles, settings: Settings, redis, monkeypatch
) -> None:
    with pooled(database_url, "statement") as url:
        clients = Clients(Settings({**settings.env, "DATABASE_URL": url}), role=Role.WORKER)
        neighbour = Neighbour(url)
        with pytest.raises(PoolerUnusable, match="pool_mode=statement"):
            clients.postgres()
        monkeypatch.setenv("DATABASE_URL", url)
        handle = handler("ops")
        (told,) = [text for text in handle({"operation": "status"}, context)["problems"] if "Postgres" in text]
        assert "pool_mode=statement" in told
        message = handle({"operation": "tally verify"}, context)["error"]["message"]
        assert "pool_mode=statement" in message
        clients.close()
        neighbour.close()
        assert neighbour.seen == {neighbour.untouched}


def test_a_pooler_that_went_away_is_a_database_that_is_away(
    without_roles, database_url, settings: Settings, redis: Redis
) -> None:
    with pooled(database_url, "transaction") as url:
        clients = Clients(Settings({**settings.env, "DATABASE_URL": url}), redis_retries=0, role=Role.WORKER)
        push(redis, 1)
        drain(clients)
    push(redis, 5)
    with pytest.raises(psycopg.OperationalError):
        VoteTable(clients.postgres()).record([Vote("a", "x")], 1)
    clients.close()


def test_the_handler_of_the_worker_runs_behind_a_pooler(
    handler, without_roles, redis: Redis, url: str, monkeypatch
) -> None:
    """With the publisher, which has a connection of its own: of one session, both have to make do."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    deadline_ms = int((time.time() + STOP_BEFORE_END_S + 3) * 1000)
    context = LambdaContext("8476a536-e9f4-11e8-9739-2dfe598c3fcd", None, {}, deadline_ms, "arn:aws:lambda:function:f")
    push(redis, 2000)
    counted: list[dict[str, Any]] = []
    handle = handler("worker")
    thread = threading.Thread(target=lambda: counted.append(handle(event("schedule"), context)))
    thread.start()
    wait_for(lambda: redis.hget("{votes}:snapshot", "version"), "a snapshot")
    thread.join()
    assert counted[0]["stored"] == 2000
