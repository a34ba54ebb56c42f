"""A session of the database: ours alone or, behind a pooler, shared with the pooler's other clients.

In a session of our own, settings and role are set once. A pooler in transaction mode gives the same session to other
clients between two of our transactions. There, each transaction sends its settings in the message that begins it, and
nothing remains after it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from voting.database.location import SAFE_PATH
from voting.database.ownership import closed_path, see_to_ownership
from voting.database.roles import Role, settings_of

READER_IDLE_TIMEOUT_MS = 60_000  # a frozen environment must not hold a slot for longer

# Take the first free slot, for as long as the session lives. Each application name has slots of its own.
TAKE_SLOT = """
SELECT slot FROM generate_series(1, %s) AS slot
WHERE pg_try_advisory_lock(hashtext(current_setting('application_name')), slot)
LIMIT 1
"""


class NotAskedAgain(psycopg.OperationalError):
    """The database did not answer a moment ago."""


class SecretUnreadable(psycopg.OperationalError):
    """The login of the database cannot be fetched."""


class NoSlot(psycopg.errors.TooManyConnections):
    """The database answers, but other environments of the function hold all sessions that it may open."""


class PoolerUnusable(psycopg.OperationalError):
    """The pooler breaks transactions apart."""


class NotInstalled(psycopg.OperationalError):
    """Tables, functions or rights of this version are missing, and the login may not create them."""


class SettingsRefused(psycopg.OperationalError):
    """A transaction could not begin with its settings; none of its statements was run."""


class Session(psycopg.Connection[Any]):
    """A connection in autocommit mode, limited to what one job needs by `limit`."""

    _begin: str | None = None  # what a transaction begins with; None if the session is ours alone

    @property
    def is_pooled(self) -> bool:
        """Whether the sessions behind this connection also serve other clients."""
        return self._begin is not None

    def limit(self, role: Role | None, settings: Mapping[str, int | str], *, most_readers: int) -> None:
        """Apply *settings* to its statements, and leave it only the rights of *role*, once these are granted.

        Raises:
            NoSlot: it is a reader, and *most_readers* sessions of its name exist already.
            PoolerUnusable: behind a pooler in statement mode.
            NotOurs: another role has created the schema for our tables.
        """
        # A pooler reports a process id of its own, which its clients use to cancel.
        row = self.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
        if row == (self.info.backend_pid,):
            self._limit_session(role, settings, most_readers)
        else:
            self._limit_transactions(role, settings)

    def execute_alone(self, query: sql.Composed) -> None:
        """Run a statement that is not allowed in a transaction; behind a pooler, without our settings."""
        psycopg.Cursor(self).execute(query, prepare=False)

    def leave(self) -> None:
        """Take back the rights of the login, for what only the owner of the table may do."""
        if self._begin is None:
            self.execute("SET ROLE NONE")
        else:
            self._begin += "; SET LOCAL ROLE NONE"

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Any]:
        """Begin a transaction with its settings, or a nested one; otherwise as in psycopg."""
        if self._begin is None or self.info.transaction_status is not TransactionStatus.IDLE:
            with super().transaction(savepoint_name, force_rollback) as transaction:
                yield transaction
            return
        self._start(self._begin)
        try:
            yield None
        except BaseException:
            self._give_up()
            raise
        if force_rollback:
            self.rollback()
        else:
            self.commit()

    def _limit_session(self, role: Role | None, settings: Mapping[str, int | str], most_readers: int) -> None:
        # SET and not the startup packet's options, which a connection pooler refuses.
        of_session = [f"SET {SAFE_PATH}", *(f"SET {name} = {value}" for name, value in settings.items())]
        if role is Role.READER:
            of_session += [
                "SET default_transaction_read_only = on",
                f"SET idle_session_timeout = {READER_IDLE_TIMEOUT_MS}",
            ]
        self.execute("; ".join(of_session).encode(), prepare=False)
        if role is Role.READER and self.execute(TAKE_SLOT, (most_readers,)).fetchone() is None:
            raise NoSlot(f"no slot: {most_readers} sessions of this function are open")
        see_to_ownership(self, everywhere=False)
        self.execute(f"SET {closed_path(self)}".encode(), prepare=False)
        if role is not None:
            with self.transaction():
                for setting in settings_of(self, role) or ():
                    self.execute(f"SET {setting}".encode(), prepare=False)

    def _limit_transactions(self, role: Role | None, settings: Mapping[str, int | str]) -> None:
        self.prepare_threshold = None  # a statement would be prepared in one session and used in another
        self.cursor_factory = _PooledCursor
        mode = "READ ONLY" if role is Role.READER else "READ WRITE"  # whatever another client has left behind
        local = [SAFE_PATH, *(f"{name} = {value}" for name, value in settings.items())]
        self._begin = _beginning(mode, local)
        try:
            with self.transaction():
                see_to_ownership(self, everywhere=False)
                local[0] = closed_path(self)
                local += (role is not None and settings_of(self, role)) or ()
        except psycopg.errors.ProtocolViolation as error:
            raise PoolerUnusable(
                "the pooler in front of it has pool_mode=statement: use transaction or session, or its own address"
            ) from error
        self._begin = _beginning(mode, local)

    def _start(self, begin: str) -> None:
        try:
            psycopg.Cursor(self).execute(begin.encode(), prepare=False)
        except psycopg.DataError as error:  # the role is gone, which is no fault of the votes
            self._give_up()
            raise SettingsRefused("a transaction's settings were refused") from error
        except psycopg.Error:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Roll back if the connection is still open; otherwise the server does."""
        if self.closed:
            return
        try:
            self.rollback()
        except psycopg.OperationalError:
            self.close()


def _beginning(mode: str, settings: list[str]) -> str:
    """Return how a transaction begins, in one message: it needs no more round trips than BEGIN alone."""
    return "; ".join([f"BEGIN {mode}", *(f"SET LOCAL {setting}" for setting in settings)])


class _PooledCursor(psycopg.Cursor[Any]):
    """Wraps a single statement in a transaction, which brings the settings."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        connection = self.connection
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(query, params, **options)
        with connection.transaction():
            return super().execute(query, params, **options)
