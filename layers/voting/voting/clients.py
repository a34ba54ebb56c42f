"""Connections to the stores and to AWS: built on first use, kept per execution environment, always with timeouts."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from voting.address import ENCODE
from voting.cluster import RetryOnceMoved, follow
from voting.database.roles import Role
from voting.observability import formatter
from voting.reason import explain
from voting.settings import InvalidSetting, Settings

if TYPE_CHECKING:  # imported where they are used: each costs a cold start 150 ms or more
    import psycopg
    from mypy_boto3_lambda import LambdaClient

    from voting.database.session import Session

T = TypeVar("T")

REDIS_TIMEOUT_S = 0.9  # two attempts and the response must fit into the 2 s that a voter waits at most
POSTGRES_CONNECT_TIMEOUT_S = 2  # the minimum of libpq
POSTGRES_PATIENCE_S = 1.0  # longest time of a read
SECRET_KEPT_S = 10.0  # minimum age at which a failed login fetches the secret again
POSTGRES_REST_S = 1.0  # after a failed connect, during which viewers need not wait for another one
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 5_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 5_000  # a killed worker behind a proxy must not keep the fence's row
READERS = 20  # sessions that all reading environments of one function may hold at once


class Clients:
    """The clients of a function. A broken connection is dropped and rebuilt, never repaired in place."""

    def __init__(
        self,
        settings: Settings,
        *,
        redis_retries: int = 1,
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
        lock_timeout_ms: int = LOCK_TIMEOUT_MS,
        name: str = "voting",
        role: Role | None = None,
        heeds_policies: bool = True,
    ) -> None:
        """Create clients for *settings*; *name* is the application name of the database sessions.

        *redis_retries* is for commands that may safely run twice; use zero if a lost reply must show as an error. The
        sessions have only the rights of *role*, once the worker has granted them; without a role, all rights of the
        login. Sessions of a reader cannot write, and there are at most 20 with one name, so that viewers do not crowd
        out the worker. Without *heeds_policies*, a statement is refused if row-level security applies to it: a policy
        calls functions of the table's owner with the rights of the session.
        """
        self.settings = settings
        self._name = name
        self._role = role
        self._redis_retries = redis_retries
        self._statement_timeout_ms = statement_timeout_ms
        self._lock_timeout_ms = lock_timeout_ms
        self._heeds_policies = heeds_policies
        self._redis: Redis | None = None
        self._postgres: Session | None = None
        self._postgres_rests_until = 0.0
        self._postgres_failure = ""  # the reason, in words for an operator
        self._database_user: dict[str, str] | None = None
        self._database_user_at = float("-inf")  # when it was fetched
        self._lambda: LambdaClient | None = None
        self._owner: Clients | None = None

    def redis(self) -> Redis:
        """Return the Redis client; it connects with its first command.

        Raises:
            InvalidSetting: REDIS_URL cannot be used.
        """
        if self._redis is None:
            self._redis = self._new_redis()
        return self._redis

    def _new_redis(self) -> Redis:
        url = self.settings.redis_url
        try:
            redis = Redis.from_url(
                url,
                socket_timeout=REDIS_TIMEOUT_S,
                socket_connect_timeout=REDIS_TIMEOUT_S,
                retry=RetryOnceMoved(NoBackoff(), self._redis_retries),
                # RESP2 without a name or notifications: only AUTH is sent on connect, in the form of Redis 6.2.
                protocol=2,
                driver_info=None,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
            of_connections = redis.connection_pool.connection_kwargs
            if url.startswith("rediss:") and not of_connections.get("password"):
                of_connections["redis_connect_func"] = _greet
            if "?" in url:  # its options would be checked only with the first connection
                redis.connection_pool.connection_class(**of_connections)
        except (TypeError, ValueError, RedisError):  # their messages quote the URL
            raise InvalidSetting(
                "REDIS_URL has an option that redis-py does not take, or not with this value"
            ) from None
        follow(redis)
        return redis

    def postgres(self) -> "Session":
        """Return the kept connection to the database, in autocommit mode.

        Raises:
            psycopg.OperationalError: the database did not answer; it is not asked again for one second.
            psycopg.errors.TooManyConnections: a subclass: the database answers, but all slots of readers are taken.
        """
        import psycopg  # noqa: PLC0415 - vote never needs it, and the results only without a snapshot

        from voting.database.session import NotAskedAgain  # noqa: PLC0415

        if self._postgres is not None and not self._postgres.closed:
            return self._postgres
        if time.monotonic() < self._postgres_rests_until:
            raise NotAskedAgain(self._postgres_failure)
        try:
            self._postgres = self._connect()
        except psycopg.OperationalError as error:
            self._postgres_rests_until = time.monotonic() + POSTGRES_REST_S
            self._postgres_failure = explain(error)
            raise
        return self._postgres

    def on_postgres(self, work: "Callable[[psycopg.Connection], T]") -> T:
        """Do *work*, which must be safe to repeat; do it again if the kept connection turns out to be dead.

        Raises:
            psycopg.OperationalError: the new connection failed too, or the work took longer than a second.
        """
        import psycopg  # noqa: PLC0415

        kept = self._postgres is not None
        try:
            return self._within_patience(work)
        except psycopg.OperationalError:
            if not kept:
                raise
        return self._within_patience(work)

    def _within_patience(self, work: "Callable[[psycopg.Connection], T]") -> T:
        import psycopg  # noqa: PLC0415

        connection = self.postgres()
        try:
            with _cut_after(connection, POSTGRES_PATIENCE_S):
                return work(connection)
        except psycopg.OperationalError:
            self.forget_postgres()
            raise

    def forget_postgres(self) -> None:
        """Close the kept connection, so that the next use opens a new one."""
        if self._postgres is not None:
            self._postgres.close()
            self._postgres = None

    def owner(self) -> "Clients":
        """Return clients of the login that may install; self if the functions share one login for everything."""
        arn = self.settings.database_owner_secret_arn
        if arn is None:
            return self
        if self._owner is None:
            self._owner = Clients(
                Settings({**self.settings.env, "DATABASE_SECRET_ARN": arn}),
                statement_timeout_ms=self._statement_timeout_ms,
                lock_timeout_ms=self._lock_timeout_ms,
                name=f"{self._name}-owner",
                heeds_policies=False,
            )
        return self._owner

    def lambda_(self) -> "LambdaClient":
        """Return the client that invokes functions."""
        if self._lambda is None:
            import boto3  # noqa: PLC0415 - only the worker invokes functions
            from botocore.config import Config  # noqa: PLC0415

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

    def _connect(self) -> "Session":
        import psycopg  # noqa: PLC0415

        try:
            return self._open()
        except psycopg.errors.TooManyConnections:  # no free slot; the login itself works
            raise
        except psycopg.OperationalError:
            if self._database_user is None or time.monotonic() - self._database_user_at < SECRET_KEPT_S:
                raise
            self._database_user = None  # the secret may have been rotated: fetch it again, once
            return self._open()

    def _open(self) -> "Session":
        import psycopg  # noqa: PLC0415

        from voting.database.session import Session  # noqa: PLC0415

        connection = Session.connect(self._conninfo(), autocommit=True)
        settings: dict[str, int | str] = {
            "statement_timeout": self._statement_timeout_ms,
            "lock_timeout": self._lock_timeout_ms,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_MS,
        }
        if not self._heeds_policies:
            settings["row_security"] = "off"
        try:
            connection.limit(self._role, settings, most_readers=READERS)
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def _conninfo(self) -> str:
        from psycopg import ProgrammingError  # noqa: PLC0415
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415

        options: dict[str, str | int] = {
            "connect_timeout": POSTGRES_CONNECT_TIMEOUT_S,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 5_000,
            "application_name": self._name,
            # Whatever the defaults of the database or the role: ids are sent as UTF-8, and names come back as text.
            "client_encoding": "UTF8",
        }
        url = self.settings.database_url
        credentials = self._credentials()
        try:
            return make_conninfo(url, **(options | credentials))
        except ProgrammingError:  # its message quotes the URL
            raise InvalidSetting(
                f"DATABASE_URL has an option that libpq does not take, or cannot be read: {ENCODE}"
            ) from None

    def _credentials(self) -> dict[str, str]:
        options: dict[str, str] = {}
        if self.settings.database_sslrootcert:
            options = {"sslmode": "verify-full", "sslrootcert": self.settings.database_sslrootcert}
        if self.settings.database_secret_arn:
            if self._database_user is None:
                self._database_user = fetch_database_user(self.settings.database_secret_arn)
                self._database_user_at = time.monotonic()
            options |= self._database_user
        return options


def _greet(connection: Any) -> None:
    """Log in and read one response, and with it what TLS 1.3 sends after its handshake.

    redis-py takes that data for an unexpected response, and drops the new connection. With a password, the
    response to the login serves the same purpose.
    """
    connection.on_connect()
    connection.send_command("PING", check_health=False)
    connection.read_response()


@contextmanager
def _cut_after(connection: "psycopg.Connection", seconds: float) -> Iterator[None]:
    """Break the connection if the work takes longer: a frozen server does not honour its own statement timeout."""
    end = socket.socket(fileno=os.dup(connection.fileno()))
    timer = threading.Timer(seconds, end.shutdown, (socket.SHUT_RDWR,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        end.close()


def fetch_database_user(secret_arn: str) -> dict[str, str]:
    """Return user and password from Secrets Manager, stored as RDS does (keys `username` and `password`).

    Raises:
        psycopg.OperationalError: Secrets Manager did not answer within seconds, refused, or holds something else.
            Without the secret the database cannot be reached, so callers see the same error as if it were down.
    """
    import json  # noqa: PLC0415

    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    from voting.database.session import SecretUnreadable  # noqa: PLC0415

    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("secretsmanager", config=config)
        secret = json.loads(client.get_secret_value(SecretId=secret_arn)["SecretString"])
        formatter.conceal([secret["password"]])
        return {"user": secret["username"], "password": secret["password"]}
    except (BotoCoreError, ClientError, ValueError, LookupError, TypeError) as error:
        raise SecretUnreadable(f"the secret of the database cannot be read: {type(error).__name__}") from error
