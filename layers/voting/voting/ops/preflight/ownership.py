"""What a preflight finds about other roles of the database: what they own, and what they may make."""

from collections.abc import Iterator

import psycopg

from voting.database.location import locate
from voting.database.ownership import earlier_owner, foreign_objects, other_creators
from voting.ops.preflight.finding import Finding, ok, problem


def ownership_findings(connection: psycopg.Connection) -> Iterator[Finding]:
    """Objects under our names, whose the tables of an earlier release are, and who may create in the schema."""
    found = [*_objects(connection), *_earlier(connection), *_creators(connection)]
    yield from found or [ok("no other role may become our login by what it makes in the database")]


def _objects(connection: psycopg.Connection) -> Iterator[Finding]:
    for clause in foreign_objects(connection, everywhere=True):
        todo = "Look who made it, then DROP it: until then the worker installs nothing, and an earlier release uses it."
        yield problem(clause, todo)


def _earlier(connection: psycopg.Connection) -> Iterator[Finding]:
    if owner := earlier_owner(connection):
        todo = f"Run `install` with the login {owner}, once: it moves them. Until then nothing is counted."
        yield problem(f"tables of an earlier release belong to {owner}", todo)


def _creators(connection: psycopg.Connection) -> Iterator[Finding]:
    location = locate(connection)
    if creators := other_creators(connection):
        todo = f"REVOKE CREATE ON SCHEMA {location.schema} FROM {', '.join(creators)}. " + (
            "We call nothing there, nor do triggers in our sessions that name no schema; the old worker and psql may."
            if location.is_there
            else "Else they may make `votes` before we do, and own it."
        )
        yield problem(f"{', '.join(creators)} may create in the schema {location.schema}", todo)
