"""The results to show now: from the snapshot, or from the table if the snapshot is old."""

from redis.exceptions import RedisError

from voting.clients import Clients
from voting.observability import tell
from voting.question import Question
from voting.queue.queue_view import QueueView
from voting.results.results import PING_S, Results
from voting.results.snapshot import FRESH_S, Snapshots
from voting.tally import Tally


class ResultsUnavailable(Exception):
    """Neither Redis nor Postgres has results to show."""


def read_results(clients: Clients, question: Question) -> Results:
    """The newest results available, with `stale_seconds` if they are unconfirmed or votes wait uncounted.

    Raises:
        ResultsUnavailable: Redis has no snapshot, and Postgres is away or has votes but no tally.
    """
    try:
        snapshot = Snapshots(clients.redis()).read()
        if snapshot is not None and snapshot.age_s <= FRESH_S:
            return snapshot.results(question)
        behind_s = QueueView(clients.redis()).backlog().behind_s
    except RedisError as error:
        tell("Redis gives no results", error=error)
        snapshot, behind_s = None, 0.0
    tally = _table(clients)
    if tally is not None:
        ping_s = PING_S if snapshot is None else snapshot.ping_s
        return Results.of(tally, question, round(behind_s) if behind_s > FRESH_S else None, ping_s)
    if snapshot is None:
        raise ResultsUnavailable
    return snapshot.results(question)


def _table(clients: Clients) -> Tally | None:
    # Imported here, since the driver doubles the cold start, and a fresh snapshot does without it.
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
    """Whether there is no tally because there are no votes yet. With rows but no tally, the result is not zero."""
    import psycopg  # noqa: PLC0415

    from voting.database.vote_table import VoteTable  # noqa: PLC0415

    try:
        try:
            return clients.on_postgres(lambda connection: VoteTable(connection).is_empty())
        except psycopg.errors.InsufficientPrivilege:
            clients.forget_postgres()  # the session took the reader role while there was a tally; a new one will not
            return clients.on_postgres(lambda connection: VoteTable(connection).is_empty())
    except psycopg.errors.UndefinedTable:
        return True
    except psycopg.Error as error:
        tell("there is no tally, and the votes cannot be read", error=error)
        return False
