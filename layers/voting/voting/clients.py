"""Connections to the stores and to AWS: built on first use, kept per execution environment, always with timeouts."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from voting.roles import Role, take
from voting.settings import Settings

if TYPE_CHECKING:  # imported where they are used: each costs a cold start 150 ms or more
    import psycopg
    from mypy_boto3_lambda import LambdaClient

T = TypeVar("T")

REDIS_TIMEOUT_S = 0.9  # two attempts and an answer fit into the 2 s that a voter waits at most
POSTGRES_CONNECT_TIMEOUT_S = 2  # the least that libpq takes
POSTGRES_PATIENCE_S = 1.0  # with a read
SECRET_KEPT_S = 10.0  # before a failed login has it fetched again
POSTGRES_REST_S = 1.0  # after a failed connect, so that a viewer does not wait for each of many
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 5_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 5_000  # a killed worker behind a proxy must not keep the fence's row
READERS = 20  # sessions that all reading environments of one function may hold at once
READER_IDLE_TIMEOUT_MS = 60_000  # a frozen environment must not keep one of them

# The first free of the slots, held as long as the session lives. The function's name sets its slots apart.
TAKE_SLOT = """
SELECT slot FROM generate_series(1, %s) AS slot
WHERE pg_try_advisory_lock(hashtext(current_setting('application_name')), slot)
LIMIT 1
"""


class Clients:
    """What a function talks to. A broken connection is forgotten and rebuilt, never repaired in place."""

    def __init__(
        self,
        settings: Settings,
        *,
        redis_retries: int = 1,
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
        lock_timeout_ms: int = LOCK_TIMEOUT_MS,
        name: str = "voting",
        role: Role | None = None,
    ) -> None:
        """Hand out clients for *settings*; the database knows their sessions by *name*.

        *redis_retries* is for commands that may safely run twice; zero where a lost reply must be known as such.
        Its sessions have the rights of *role* only, as soon as the worker has granted them; without one, all that the
        login has. Those of a reader cannot write, and there are at most 20 of one name: viewers must not crowd out the
        worker.
        """
        self.settings = settings
        self._name = name
        self._role = role
        self._redis_retries = redis_retries
        self._statement_timeout_ms = statement_timeout_ms
        self._lock_timeout_ms = lock_timeout_ms
        self._redis: Redis | None = None
        self._postgres: psycopg.Connection | None = None
        self._postgres_rests_until = 0.0
        self._database_user: dict[str, str] | None = None
        self._database_user_at = float("-inf")  # when it was fetched
        self._lambda: LambdaClient | None = None

    def redis(self) -> Redis:
        """The client of the cache; it connects on its first command."""
        if self._redis is None:
            self._redis = Redis.from_url(
                self.settings.redis_url,
                socket_timeout=REDIS_TIMEOUT_S,
                socket_connect_timeout=REDIS_TIMEOUT_S,
                retry=Retry(NoBackoff(), self._redis_retries),
                # RESP2 without a name or notifications: nothing is sent at connect but AUTH, as Redis 6.2 knows it.
                protocol=2,
                driver_info=None,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        return self._redis

    def postgres(self) -> "psycopg.Connection":
        """The kept connection to the database, in autocommit mode.

        Raises:
            psycopg.OperationalError: the database did not answer; for a second after that it is not asked again.
            psycopg.errors.TooManyConnections: one of these: it answers, and all slots of read-only sessions are taken.
        """
        import psycopg  # noqa: PLC0415 - vote never needs it, and the results only without a snapshot

        if self._postgres is not None and not self._postgres.closed:
            return self._postgres
        if time.monotonic() < self._postgres_rests_until:
            raise psycopg.OperationalError("the database did not answer a moment ago")
        try:
            self._postgres = self._connect()
        except psycopg.OperationalError:
            self._postgres_rests_until = time.monotonic() + POSTGRES_REST_S
            raise
        return self._postgres

    def on_postgres(self, work: "Callable[[psycopg.Connection], T]") -> T:
        """Do *work*, which must bear being done twice, and once more where the kept connection had died.

        Raises:
            psycopg.OperationalError: also the new connection failed, or the work took longer than a second.
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
        """Close the kept connection, so that the next use makes a new one."""
        if self._postgres is not None:
            self._postgres.close()
            self._postgres = None

    def lambda_(self) -> "LambdaClient":
        """The client that invokes functions."""
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
        if self._redis is not None:
            self._redis.close()
            self._redis = None

    def _connect(self) -> "psycopg.Connection":
        import psycopg  # noqa: PLC0415

        try:
            return self._open()
        except psycopg.errors.TooManyConnections:  # no slot: we are let in
            raise
        except psycopg.OperationalError:
            if self._database_user is None or time.monotonic() - self._database_user_at < SECRET_KEPT_S:
                raise
            self._database_user = None  # the secret may have been rotated: fetch it again, once
            return self._open()

    def _open(self) -> "psycopg.Connection":
        import psycopg  # noqa: PLC0415

        options: dict[str, str | int] = {
            "connect_timeout": POSTGRES_CONNECT_TIMEOUT_S,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 5_000,
            "application_name": self._name,
            # Whatever the database or the role says: ids are sent as UTF-8, and names come back as text.
            "client_encoding": "UTF8",
        }
        conninfo = psycopg.conninfo.make_conninfo(self.settings.database_url, **(options | self._credentials()))
        connection = psycopg.connect(conninfo, autocommit=True)
        # SET and not the startup packet's options, which a connection pooler refuses.
        connection.execute(
            f"SET statement_timeout = {int(self._statement_timeout_ms)}; "
            f"SET lock_timeout = {int(self._lock_timeout_ms)}; "
            f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_TIMEOUT_MS}",
            prepare=False,
        )
        try:
            if self._role is Role.READER:
                self._limit(connection)
            if self._role is not None:
                take(connection, self._role)
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def _limit(self, connection: "psycopg.Connection") -> None:
        """Take a slot, and give up the right to write."""
        import psycopg  # noqa: PLC0415

        connection.execute(
            f"SET default_transaction_read_only = on; SET idle_session_timeout = {READER_IDLE_TIMEOUT_MS}",
            prepare=False,
        )
        if connection.execute(TAKE_SLOT, (READERS,)).fetchone() is None:
            raise psycopg.errors.TooManyConnections(f"no slot: {READERS} sessions of {self._name} are open")

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
    """User and password from Secrets Manager, in the shape that RDS stores (keys `username` and `password`).

    Raises:
        psycopg.OperationalError: it did not answer within seconds, refused, or holds something else. Without it the
            database cannot be reached, so callers meet what they meet where the database is away.
    """
    import json  # noqa: PLC0415

    import boto3  # noqa: PLC0415
    import psycopg  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("secretsmanager", config=config)
        secret = json.loads(client.get_secret_value(SecretId=secret_arn)["SecretString"])
        return {"user": secret["username"], "password": secret["password"]}
    except (BotoCoreError, ClientError, ValueError, LookupError, TypeError) as error:
        raise psycopg.OperationalError(f"the secret of the database cannot be read: {type(error).__name__}") from error
