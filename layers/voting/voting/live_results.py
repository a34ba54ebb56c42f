"""The results to show now: the snapshot, the table behind it where that is old, and what is left when both fail."""

from collections.abc import Mapping

from redis.exceptions import RedisError

from voting.clients import Clients
from voting.observability import logger
from voting.reason import explain
from voting.results import Results, Tally
from voting.snapshot import Snapshot, Snapshots

FRESH_S = 5.0  # the worker confirms the snapshot every second; older means that no worker is there to do so


class ResultsUnavailable(Exception):
    """Neither Redis nor Postgres has figures to show."""


def read_results(clients: Clients, labels: Mapping[str, str]) -> Results:
    """The newest results that can be had, with `stale_seconds` where they may be outdated.

    Raises:
        ResultsUnavailable: both stores are away, or Postgres is and Redis holds no snapshot.
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
        logger.warning("no snapshot to read", error=type(error).__name__, detail=explain(error))
        return None


def _table(clients: Clients) -> Tally | None:
    # Only here, since Postgres' driver doubles a cold start that a fresh snapshot spares.
    import psycopg  # noqa: PLC0415

    from voting.tally import VoteTable  # noqa: PLC0415

    try:
        return clients.on_postgres(lambda connection: VoteTable(connection).tally())
    except psycopg.errors.UndefinedTable:
        return Tally(0, {})  # no worker has run yet, so nothing is counted yet
    except psycopg.Error as error:
        logger.warning("no table to read", error=type(error).__name__, detail=explain(error))
        return None
