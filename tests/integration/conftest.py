"""What tests of single parts share, beside the stores."""

import psycopg
import pytest

from voting.roles import Role
from voting.tally import VoteTable


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
