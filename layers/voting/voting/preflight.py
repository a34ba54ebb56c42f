"""Before the switch: what in the stores of a running container deployment would go wrong with us."""

from collections.abc import Callable, Iterable

import psycopg
from redis.exceptions import RedisError

from voting.catalogue import Catalogue
from voting.clients import Clients
from voting.finding import Finding, ok, problem
from voting.preflight_list import list_findings
from voting.preflight_ownership import ownership_findings
from voting.preflight_postgres import server_findings, table_findings
from voting.preflight_redis import redis_findings
from voting.queue_view import QueueView
from voting.reason import explain
from voting.settings import InvalidSetting

LONGEST_WATCH_S = 60.0


def inspect(clients: Clients, *, watch_s: float) -> list[Finding]:
    """Look at both stores without changing anything; the list is watched for *watch_s*."""
    return [
        *_unless(RedisError, "Redis", lambda: _redis(clients, watch_s)),
        *_unless(psycopg.Error, "Postgres", lambda: _postgres(clients)),
    ]


def _redis(clients: Clients, watch_s: float) -> Iterable[Finding]:
    yield from redis_findings(clients.redis())
    yield from list_findings(QueueView(clients.redis()), watch_s)


def _postgres(clients: Clients) -> Iterable[Finding]:
    connection = clients.postgres()
    connection.leave()  # what counts is what the login may do
    if connection.is_pooled:
        yield ok("Postgres is behind a pooler: each transaction brings its settings, none is left in a session")
    yield from ownership_findings(connection)
    catalogue = Catalogue(connection)
    yield from server_findings(catalogue.server())
    table = catalogue.table()
    readable = table is not None and table.may_write and any(column.name == "vote" for column in table.columns)
    yield from table_findings(table, catalogue.choices() if readable else [])


def _unless(failure: type[Exception], store: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except (failure, InvalidSetting) as error:
        found.append(problem(f"{store} cannot be inspected: {explain(error)}", "Mend that, and run it again."))
    return found
