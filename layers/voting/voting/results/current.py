"""The results to show now: the snapshot, the table behind it where that is old, and what is left when both fail."""

from collections.abc import Mapping

from redis.exceptions import RedisError

from voting.clients import Clients
from voting.observability import tell
from voting.queue.queue_view import QueueView
from voting.results.results import PING_S, Results
from voting.results.snapshot import FRESH_S, Snapshots
from voting.tally import Tally


class ResultsUnavailable(Exception):
    """Neither Redis nor Postgres has figures to show."""


def read_results(clients: Clients, labels: Mapping[str, str]) -> Results:
    """The newest results that can be had, with `stale_seconds` where nobody confirms them or votes wait uncounted.

    Raises:
        ResultsUnavailable: Redis holds no snapshot, and Postgres is away or holds votes without a tally of them.
    """
    try:
        snapshot = Snapshots(clients.redis()).read()
        if snapshot is not None and snapshot.age_s <= FRESH_S:
            return snapshot.results(labels)
        behind_s = QueueView(clients.redis()).backlog().behind_s
    except RedisError as error:
        tell("Redis gives no results", error=error)
        snapshot, behind_s = None, 0.0
    tally = _table(clients)
    if tally is not None:
        ping_s = PING_S if snapshot is None else snapshot.ping_s
        return Results.of(tally, labels, round(behind_s) if behind_s > FRESH_S else None, ping_s)
    if snapshot is None:
        raise ResultsUnavailable
    return snapshot.results(labels)


def _table(clients: Clients) -> Tally | None:
    # Only here, since Postgres' driver doubles a cold start that a fresh snapshot spares.
    import psycopg  # noqa: PLC0415

    from voting.database.vote_table import VoteTable  # noqa: PLC0415

    try:
        return clients.on_postgres(lambda connection: VoteTable(connection).tally())
    except psycopg.errors.UndefinedTable:
        return Tally(0, {}) if _has_no_votes(clients) else None
    except psycopg.Error as error:
        tell("Postgres gives no results", error=error)
        return None


def _has_no_votes(clients: Clients) -> bool:
    """Whether there is no tally because there is nothing to count yet. Rows that are not counted are not zero votes."""
    import psycopg  # noqa: PLC0415

    from voting.database.vote_table import VoteTable  # noqa: PLC0415

    try:
        try:
            return clients.on_postgres(lambda connection: VoteTable(connection).is_empty())
        except psycopg.errors.InsufficientPrivilege:
            clients.forget_postgres()  # it took the reader's role while there was a tally; a new session takes none
            return clients.on_postgres(lambda connection: VoteTable(connection).is_empty())
    except psycopg.errors.UndefinedTable:
        return True
    except psycopg.Error as error:
        tell("there is no tally, and the votes cannot be looked at", error=error)
        return False
