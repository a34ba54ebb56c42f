"""Whether the stores answer, asked anew each time and never waited for longer than a few seconds."""

from dataclasses import dataclass

from redis.exceptions import RedisError

from voting.clients import Clients
from voting.observability import logger
from voting.reason import explain
from voting.settings import InvalidSetting


@dataclass(frozen=True, slots=True)
class Health:
    """Which of the stores answered."""

    redis: bool
    postgres: bool

    @property
    def is_well(self) -> bool:
        return self.redis and self.postgres

    def document(self) -> dict[str, str]:
        """The body of `GET /health`: no address, no error text, nothing that a stranger may not know."""
        words = {True: "ok", False: "unreachable"}
        return {
            "status": "ok" if self.is_well else "unavailable",
            "redis": words[self.redis],
            "postgres": words[self.postgres],
        }


def check_health(clients: Clients) -> Health:
    """Ask both stores for a sign of life."""
    return Health(redis=_redis_answers(clients), postgres=_postgres_answers(clients))


def _redis_answers(clients: Clients) -> bool:
    try:
        return bool(clients.redis().ping())
    except (RedisError, InvalidSetting) as error:
        logger.warning("redis is unreachable", error=type(error).__name__, detail=explain(error))
        return False


def _postgres_answers(clients: Clients) -> bool:
    import psycopg  # noqa: PLC0415 - 150 ms of a cold start that only this route pays

    try:
        return clients.on_postgres(lambda connection: connection.execute("SELECT 1").fetchone() == (1,))
    except psycopg.errors.TooManyConnections:
        return True  # it answers; other environments of ours have the slots
    except (psycopg.Error, InvalidSetting) as error:
        logger.warning("postgres is unreachable", error=type(error).__name__, detail=explain(error))
        return False
