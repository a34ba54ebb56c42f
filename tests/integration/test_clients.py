"""Connections to the stores: broken, slow, refused, with a secret that changes.

Covers clients, redis_client, kept_session and credentials.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from tests.aws_endpoint import serving
from voting.clients import Clients
from voting.database.kept_session import READERS
from voting.database.roles import Role
from voting.database.vote_table import VoteTable
from voting.ops.health import Health, check_health
from voting.question import Question
from voting.reason import explain
from voting.results.current import read_results
from voting.results.snapshot import SNAPSHOT, Snapshots
from voting.settings import Settings
from voting.tally import Tally

QUESTION = Question.of("", ["Cats", "Dogs"])


@pytest.fixture
def reader(settings: Settings, database: psycopg.Connection) -> Iterator[Callable[..., Clients]]:
    """Make read-only clients, each as one execution environment has them."""
    VoteTable(database).install()
    with ExitStack() as closing:

        def reader(name: str = "voting-result") -> Clients:
            clients = Clients(settings, name=name, role=Role.READER)
            closing.callback(clients.close)
            return clients

        yield reader


def opened(database: psycopg.Connection, name: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    (count,) = database.execute(query, (name,)).fetchone()
    return count


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO public.votes VALUES ('x', 'a')",
        "UPDATE voting.vote_tally_version SET version = 1",
        "TRUNCATE votes",
        "CREATE TABLE more (x int)",
    ],
)
def test_a_read_only_session_cannot_write(reader, statement: str) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader().postgres().execute(statement)


def test_a_session_says_whose_it_is(reader, database) -> None:
    reader("voting-someone").postgres()
    assert opened(database, "voting-someone") == 1


def test_the_session_after_the_last_slot_is_refused_and_does_not_stay_open(reader, database, clients) -> None:
    readers = [reader() for _ in range(READERS + 1)]
    for first in readers[:READERS]:
        first.postgres()
    with pytest.raises(psycopg.OperationalError, match="no slot"):
        readers[READERS].postgres()
    deadline = time.monotonic() + 10
    while opened(database, "voting-result") > READERS:
        assert time.monotonic() < deadline
    assert reader("voting-ws_connect").postgres()  # another function has slots of its own
    assert clients.postgres()  # and the worker needs none


def test_a_slot_is_free_again_after_its_session(reader, database) -> None:
    readers = [reader() for _ in range(READERS)]
    for clients in readers:
        clients.postgres()
    readers[7].close()
    deadline = time.monotonic() + 10
    while opened(database, "voting-result") == READERS:
        assert time.monotonic() < deadline
    assert reader().postgres()


def test_without_a_slot_the_last_known_results_are_shown_as_stale(reader, redis: Redis) -> None:
    for _ in range(READERS):
        reader().postgres()
    Snapshots(redis).write(Tally(17, {"a": 1}))
    redis.hincrby(SNAPSHOT, "at", -60_000)
    results = read_results(reader(), QUESTION)
    assert (results.version, results.total) == (17, 1)
    assert results.stale_seconds >= 60


def test_a_database_that_is_not_asked_again_at_once_is_away_for_the_reason_that_was_met(settings) -> None:
    clients = Clients(Settings({**settings.env, "DATABASE_URL": "postgresql://127.0.0.1:1/x"}))
    reasons = []
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError) as caught:
            clients.postgres()
        reasons.append(explain(caught.value))
    assert reasons == [reasons[0]] * 2
    assert "refused" in reasons[0]


def test_without_a_slot_the_database_is_well(reader, redis: Redis) -> None:
    for _ in range(READERS):
        reader().postgres()
    assert check_health(reader()) == Health("ok", "ok", "ok")


def test_an_idle_session_that_the_server_ended_is_opened_anew(reader, database) -> None:
    clients = reader()
    clients.postgres().execute("SET idle_session_timeout = 1")
    deadline = time.monotonic() + 10
    while opened(database, "voting-result"):
        assert time.monotonic() < deadline
    assert clients.on_postgres(lambda connection: VoteTable(connection).tally()).counts == {}


@dataclass
class SecretsManager:
    """AWS's Secrets Manager with one secret, and how often it was asked for."""

    secret: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def answer(self) -> tuple[int, bytes]:
        self.asked += 1
        return 200, json.dumps({"SecretString": json.dumps(self.secret)}).encode()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsManager]:
    secrets = SecretsManager()
    with serving(monkeypatch, "SECRETS_MANAGER", secrets.answer):
        yield secrets


@pytest.fixture
def by_secret(settings: Settings, database_url: str, secrets: SecretsManager) -> Iterator[Callable[..., Clients]]:
    """Make clients that know the database's address, and have the login from a secret."""
    url = urlsplit(database_url)
    secrets.secret = {"username": url.username or "", "password": url.password or ""}
    env = {**settings.env, "DATABASE_HOST": url.hostname or "", "DATABASE_PORT": str(url.port)}
    env |= {
        "DATABASE_NAME": url.path.strip("/"),
        "DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:1:secret:x",
    }
    del env["DATABASE_URL"]
    with ExitStack() as closing:

        def make(**more: Any) -> Clients:
            clients = Clients(Settings(env), **more)
            closing.callback(clients.close)
            return clients

        yield make


def test_the_login_comes_from_the_secret_once(by_secret, secrets: SecretsManager) -> None:
    clients = by_secret()
    assert clients.postgres().execute("SELECT 1").fetchone() == (1,)
    clients.forget_postgres()
    assert clients.postgres().execute("SELECT 1").fetchone() == (1,)
    assert secrets.asked == 1


def test_a_secret_that_was_rotated_is_fetched_again(
    by_secret, secrets: SecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voting.database.kept_session.REST_S", 0.0)
    clients = by_secret()
    right, secrets.secret = secrets.secret, secrets.secret | {"password": "of yesterday"}
    with pytest.raises(psycopg.OperationalError):
        clients.postgres()
    secrets.secret = right
    monkeypatch.setattr("voting.database.credentials.SECRET_KEPT_S", 0.0)  # some time later
    assert clients.postgres().execute("SELECT 1").fetchone() == (1,)
    assert secrets.asked == 2


def test_a_login_that_fails_does_not_ask_for_the_secret_each_time(
    by_secret, secrets: SecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voting.database.kept_session.REST_S", 0.0)
    secrets.secret |= {"password": "wrong"}
    clients = by_secret()
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            clients.postgres()
    assert secrets.asked == 1


def test_without_a_slot_the_secret_is_not_asked_for_again(
    by_secret, reader, secrets: SecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voting.database.credentials.SECRET_KEPT_S", 0.0)
    for _ in range(READERS):
        reader().postgres()
    with pytest.raises(psycopg.errors.TooManyConnections):
        by_secret(name="voting-result", role=Role.READER).postgres()
    assert secrets.asked == 1


def test_without_its_secret_the_database_counts_as_away(
    by_secret, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    Snapshots(redis).write(Tally(17, {"a": 1}))
    redis.hincrby(SNAPSHOT, "at", -60_000)
    assert read_results(by_secret(), QUESTION).stale_seconds >= 60
    assert check_health(by_secret()) == Health("ok", "unreachable", "ok")


def test_a_secret_that_holds_something_else_is_said(by_secret, secrets: SecretsManager) -> None:
    secrets.secret = {"user": "postgres"}
    with pytest.raises(psycopg.OperationalError, match="secret of the database cannot be read: KeyError"):
        by_secret().postgres()
