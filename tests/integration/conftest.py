"""What tests of single parts share, beside the stores: a table, and a deployment whose functions have a login each."""

from collections.abc import Iterator

import psycopg
import pytest
from moto.server import ThreadedMotoServer

from tests.deployment import Deployment, deployed
from voting.database.roles import Role
from voting.database.vote_table import VoteTable
from voting.settings import Settings


@pytest.fixture
def table(database: psycopg.Connection) -> VoteTable:
    """The table of votes and its tally, installed."""
    table = VoteTable(database)
    table.install()
    return table


@pytest.fixture
def without_roles(database: psycopg.Connection) -> psycopg.Connection:
    """A server without our roles: they outlive the schema that other tests left."""
    for role in Role:
        if database.execute("SELECT to_regrole(%s)", (role,)).fetchone() != (None,):
            database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    return database


@pytest.fixture(scope="session")
def secrets_manager() -> Iterator[str]:
    """The address of moto's Secrets Manager."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def deployment(
    settings: Settings, database: psycopg.Connection, secrets_manager: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with deployed(settings, database) as deployment:
        yield deployment
