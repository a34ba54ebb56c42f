"""The results to show now: the snapshot, the table behind it where that is old, and what is left when both fail."""

from collections.abc import Mapping

from redis.exceptions import RedisError

from voting.clients import Clients
from voting.observability import logger
from voting.results import Results, Tally
from voting.snapshot import Snapshot, Snapshots

FRESH_S = 5.0  # the worker confirms the snapshot every second; older means that no worker is there to do so


class ResultsUnavailable(Exception):
    """Neither Redis nor Postgres has figures to show."""


def read_results(clients: Clients, labels: Mapping[str, str]) -> Results:
    """The newest results that can be had, with `stale_seconds` where they may be outdated.

    Raises:
        ResultsUnavailable: Redis holds no snapshot, and Postgres is away or holds votes without a tally of them.
    """
    snapshot = _snapshot(clients)
    if snapshot is not None and snapshot.age_s <= FRESH_S:
        return Results.of(snapshot.tally, labels)
    tally = _table(clients)
    if tally is not None:
        return Results.of(tally, labels)
    if snapshot is None:
        raise ResultsUnavailable
    return Results.of(snapshot.tally, labels, stale_seconds=round(snapshot.age_s))


def _snapshot(clients: Clients) -> Snapshot | None:
    try:
        return Snapshots(clients.redis()).read()
    except RedisError as error:
        logger.warning("no snapshot to read", error=type(error).__name__)
        return None


def _table(clients: Clients) -> Tally | None:
    # Only here, since Postgres' driver doubles a cold start that a fresh snapshot spares.
    import psycopg  # noqa: PLC0415

    from voting.tally import VoteTable  # noqa: PLC0415

    try:
        return clients.on_postgres(lambda connection: VoteTable(connection).tally())
    except psycopg.errors.UndefinedTable:
        return Tally(0, {}) if _has_no_votes(clients) else None
    except psycopg.Error as error:
        logger.warning("no table to read", error=type(error).__name__)
        return None


def _has_no_votes(clients: Clients) -> bool:
    """Whether there is no tally because there is nothing to count yet. Rows that are not counted are not zero votes."""
    import psycopg  # noqa: PLC0415

    from voting.tally import VoteTable  # noqa: PLC0415

    try:
        try:
            return clients.on_postgres(lambda connection: VoteTable(connection).is_empty())
        except psycopg.errors.InsufficientPrivilege:
            clients.forget_postgres()  # it took the reader's role while there was a tally; a new session takes none
            return clients.on_postgres(lambda connection: VoteTable(connection).is_empty())
    except psycopg.errors.UndefinedTable:
        return True
    except psycopg.Error as error:
        logger.warning("there is no tally, and the votes cannot be looked at", error=type(error).__name__)
        return False
