"""The preflight before a migration: what in the stores of a running container deployment would go wrong with us."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import psycopg
from redis.exceptions import RedisError

from voting.clients import Clients
from voting.database.catalogue import Catalogue, Table
from voting.database.logins import Logins
from voting.database.ownership import earlier_owner
from voting.database.vote_table import VoteTable
from voting.ops.preflight.finding import Finding, ok, problem
from voting.ops.preflight.identity import identity_findings
from voting.ops.preflight.logins import login_findings
from voting.ops.preflight.ownership import ownership_findings
from voting.ops.preflight.postgres import choice_findings, server_findings, table_findings
from voting.ops.preflight.queue import list_findings
from voting.ops.preflight.redis import redis_findings
from voting.ops.provisioning import logins_of
from voting.queue.queue_view import QueueView
from voting.reason import explain
from voting.settings import InvalidSetting

LONGEST_WATCH_S = 60.0


def inspect(clients: Clients, *, watch_s: float) -> list[Finding]:
    """Inspect both stores without changing anything. The list is watched for *watch_s* seconds."""
    return [
        *identity_findings(clients.settings),
        *_unless(RedisError, "Redis", lambda: _redis(clients, watch_s)),
        *_unless(psycopg.Error, "Postgres", lambda: _postgres(clients)),
    ]


def _redis(clients: Clients, watch_s: float) -> Iterable[Finding]:
    yield from redis_findings(clients.redis(), confirm_by_replica=clients.settings.confirm_by_replica)
    yield from list_findings(QueueView(clients.redis()), tuple(clients.settings.question.labels), watch_s)


def _postgres(clients: Clients) -> Iterable[Finding]:
    connection = clients.owner().postgres()
    connection.leave()  # the rights of the login that installs decide
    if connection.is_pooled:
        yield ok("Postgres is behind a pooler: each transaction sets its own settings, and leaves none in the session")
    yield from ownership_findings(connection)
    catalogue = Catalogue(connection)
    server, table = catalogue.server(), catalogue.table()
    installs_elsewhere = earlier_owner(connection) is not None  # reported above
    if installs_elsewhere:
        server = replace(server, may_make_schema=True)
    yield from server_findings(server)
    if table is not None and (installs_elsewhere or (clients.owner() is clients and VoteTable(connection).follows())):
        table = replace(table, may_add_triggers=True)  # only installing needs them
    logins, names = Logins(connection), [login.name for login in logins_of(clients.settings)]
    yield from login_findings(logins, names)
    yield from table_findings(table)
    if logins.powers(names).keys() >= set(names):  # all logins exist
        yield from choice_findings(_choices(clients, table), tuple(clients.settings.question.labels))


def _choices(clients: Clients, table: Table | None) -> Sequence[str]:
    """The choices in the rows, read only with the functions' own login, since a view runs code as its reader."""
    if table is None or not table.may_write or all(column.name != "vote" for column in table.columns):
        return []
    connection = clients.postgres()
    if clients.owner() is clients:
        connection.leave()
    catalogue = Catalogue(connection)
    return catalogue.choices() if catalogue.may_read() else []


def _unless(failure: type[Exception], store: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except (failure, InvalidSetting) as error:
        found.append(problem(f"{store} cannot be inspected: {explain(error)}", "Correct it, then run this again."))
    return found
