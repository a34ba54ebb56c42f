"""The clients of a function: of the stores and of AWS, built on first use and kept per execution environment."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from voting.database.limits import Limits
from voting.light_connection import REDIS_TIMEOUT_S, Target
from voting.light_redis import LightRedis
from voting.settings import Settings

if TYPE_CHECKING:  # imported where they are used: each costs a cold start 150 ms or more
    import psycopg
    from mypy_boto3_lambda import LambdaClient
    from redis import Redis

    from voting.database.kept_session import KeptSession
    from voting.database.roles import Role
    from voting.database.session import Session

T = TypeVar("T")

STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 5_000


class Clients:
    """The clients of a function. A broken connection is dropped and rebuilt, never repaired in place."""

    def __init__(
        self,
        settings: Settings,
        *,
        redis_retries: int = 1,
        light: bool = False,
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
        lock_timeout_ms: int = LOCK_TIMEOUT_MS,
        name: str = "voting",
        role: "Role | None" = None,
        heeds_policies: bool = True,
    ) -> None:
        """Create clients for *settings*; *name* is the application name of the database sessions.

        *light* takes the Redis client that is quick to import: for functions that a person waits for, and one thread.
        *redis_retries* is for commands that may safely run twice; use zero if a lost reply must show as an error. The
        sessions have only the rights of *role*, once the worker has granted them; without a role, all rights of the
        login. Sessions of a reader cannot write, and there are at most 20 with one name, so that viewers do not crowd
        out the worker. Without *heeds_policies*, a statement is refused if row-level security applies to it: a policy
        calls functions of the table's owner with the rights of the session.
        """
        self.settings = settings
        self._limits = Limits(name, role, statement_timeout_ms, lock_timeout_ms, heeds_policies)
        self._redis_retries = redis_retries
        self._light = light
        self._redis: Redis | None = None
        self._kept_session: KeptSession | None = None
        self._lambda: LambdaClient | None = None
        self._owner: Clients | None = None

    def redis(self) -> "Redis":
        """Return the Redis client; it connects with its first command.

        Raises:
            InvalidSetting: REDIS_URL cannot be used.
        """
        if self._redis is None:
            self._redis = self._light_redis() if self._light else self._whole_redis()
        return self._redis

    def postgres(self) -> "Session":
        """Return the kept session of the database: `KeptSession.get`, with its errors."""
        return self._session().get()

    def on_postgres(self, work: "Callable[[psycopg.Connection], T]") -> T:
        """Do *work* on the kept session, again if that is dead: `KeptSession.read`, with its errors."""
        return self._session().read(work)

    def forget_postgres(self) -> None:
        """Close the kept session, so that the next use opens a new one."""
        if self._kept_session is not None:
            self._kept_session.close()

    def owner(self) -> "Clients":
        """Return clients of the login that may install; self if the functions share one login for everything."""
        arn = self.settings.database_owner_secret_arn
        if arn is None:
            return self
        if self._owner is None:
            self._owner = Clients(
                Settings({**self.settings.env, "DATABASE_SECRET_ARN": arn}),
                statement_timeout_ms=self._limits.statement_timeout_ms,
                lock_timeout_ms=self._limits.lock_timeout_ms,
                name=f"{self._limits.name}-owner",
                heeds_policies=False,
            )
        return self._owner

    def lambda_(self) -> "LambdaClient":
        """Return the client that invokes functions."""
        if self._lambda is None:
            import boto3  # noqa: PLC0415 - only the worker invokes functions
            from botocore.config import Config  # noqa: PLC0415

            from voting.aws import race_connections  # noqa: PLC0415

            race_connections(prefers_ipv6=self.settings.prefers_ipv6)
            self._lambda = boto3.client(
                "lambda", config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2})
            )
        return self._lambda

    def close(self) -> None:
        """Close all connections."""
        self.forget_postgres()
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        if self._redis is not None:
            self._redis.close()
            self._redis = None

    def _whole_redis(self) -> "Redis":
        from voting.redis_client import new_redis  # noqa: PLC0415 - it imports all of redis-py

        return new_redis(self.settings.redis_url, retries=self._redis_retries)

    def _light_redis(self) -> "Redis":
        """Return the light client, which stands in for `Redis`; a whole one if the URL has options or names a file."""
        target = Target.of(self.settings.redis_url)
        if target is None:
            return self._whole_redis()
        light = LightRedis(target, timeout_s=REDIS_TIMEOUT_S, retries=self._redis_retries, whole=self._whole_redis)
        return cast("Redis", light)

    def _session(self) -> "KeptSession":
        if self._kept_session is None:
            # vote never needs the database, and the results need it only without a snapshot
            from voting.database.credentials import Credentials  # noqa: PLC0415
            from voting.database.kept_session import KeptSession  # noqa: PLC0415

            self._kept_session = KeptSession(Credentials(self.settings), self._limits)
        return self._kept_session
