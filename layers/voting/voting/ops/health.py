"""Whether votes are accepted and counted. Each check asks the stores, and takes a few seconds at most."""

from typing import Literal, NamedTuple

from redis.exceptions import RedisError, ResponseError

from voting.clients import Clients
from voting.observability import tell
from voting.queue.queue_view import Counting, QueueView
from voting.settings import InvalidSetting


class Health(NamedTuple):
    """What the stores reported."""

    redis: Literal["ok", "refused", "unreachable"]  # refused: it responds, but would not accept a vote
    postgres: Literal["ok", "unreachable"]
    counting: Counting | Literal["unknown"]  # unknown: Redis is unreachable
    stalled_s: int = 0  # if stalled: how long votes have waited while none was counted

    @property
    def is_well(self) -> bool:
        return self.redis == self.postgres == "ok" and self.counting in {"ok", "handed_back"}

    def document(self) -> dict[str, object]:
        """The body of `GET /health`, which is public: no addresses and no error texts."""
        document: dict[str, object] = {
            "status": "ok" if self.is_well else "unavailable",
            "redis": self.redis,
            "postgres": self.postgres,
            "counting": self.counting,
        }
        return document | {"stalled_seconds": self.stalled_s} if self.counting == "stalled" else document


def check_health(clients: Clients) -> Health:
    """Try what a vote needs from Redis, see whether votes are counted, and run a query in Postgres."""
    redis = _redis(clients)
    counting, stalled_s = _counting(clients)
    return Health(redis, "ok" if _postgres_answers(clients) else "unreachable", counting, stalled_s)


def _redis(clients: Clients) -> Literal["ok", "refused", "unreachable"]:
    try:
        confirm = clients.settings.confirm_by_replica
        return "ok" if QueueView(clients.redis()).takes_votes(confirm_by_replica=confirm) else "refused"
    except ResponseError as error:  # it is full, read-only or without replicas, or our user lacks a right
        tell("redis refuses votes", error=error)
        return "refused"
    except (RedisError, InvalidSetting) as error:
        tell("redis is unreachable", error=error)
        return "unreachable"


def _counting(clients: Clients) -> tuple[Counting | Literal["unknown"], int]:
    try:
        backlog = QueueView(clients.redis()).backlog()
    except (RedisError, InvalidSetting):  # reported in `redis`
        return "unknown", 0
    return backlog.counting, round(backlog.behind_s)


def _postgres_answers(clients: Clients) -> bool:
    import psycopg  # noqa: PLC0415 - it adds 150 ms to a cold start; only this route pays

    try:
        return clients.on_postgres(lambda connection: connection.execute("SELECT 1").fetchone() == (1,))
    except psycopg.errors.TooManyConnections:
        return True  # it responds; our other execution environments hold all sessions
    except (psycopg.Error, InvalidSetting) as error:
        tell("postgres is unreachable", error=error)
        return False
