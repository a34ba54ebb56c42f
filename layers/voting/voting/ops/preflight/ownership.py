"""Preflight: what other roles of the database own, and what they may create."""

from collections.abc import Iterator

import psycopg

from voting.database.location import locate
from voting.database.ownership import earlier_owner, foreign_objects, other_creators
from voting.ops.preflight.finding import Finding, ok, problem


def ownership_findings(connection: psycopg.Connection) -> Iterator[Finding]:
    """Foreign objects under our names, the owner of an earlier release's tables, and who may create in the schema."""
    found = [*_objects(connection), *_earlier(connection), *_creators(connection)]
    yield from found or [ok("no other role can become our login by what it creates in the database")]


def _objects(connection: psycopg.Connection) -> Iterator[Finding]:
    for clause in foreign_objects(connection, everywhere=True):
        todo = "Find its creator, then DROP it: until then the worker installs nothing, and an earlier release uses it."
        yield problem(clause, todo)


def _earlier(connection: psycopg.Connection) -> Iterator[Finding]:
    if owner := earlier_owner(connection):
        todo = f"Run `install` once with the login {owner}: it moves them. Until then nothing is counted."
        yield problem(f"tables of an earlier release belong to {owner}", todo)


def _creators(connection: psycopg.Connection) -> Iterator[Finding]:
    location = locate(connection)
    if creators := other_creators(connection):
        todo = f"REVOKE CREATE ON SCHEMA {location.schema} FROM {', '.join(creators)}. " + (
            "Our sessions call nothing there, nor do triggers in them that name no schema; the old worker and psql may."
            if location.is_there
            else "Otherwise they can create `votes` before we do, and own it."
        )
        yield problem(f"{', '.join(creators)} may create in the schema {location.schema}", todo)
