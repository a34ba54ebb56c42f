"""A session of the database, which belongs to us alone or, behind a pooler, to whoever has the next transaction.

Where it is ours, settings and the role are set once. A pooler in transaction mode hands the same session to its other
clients between two transactions of ours: there, each transaction brings its settings along, in the message that begins
it, and nothing outlives it.
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

READER_IDLE_TIMEOUT_MS = 60_000  # a frozen environment must not keep one of the slots

# The first free of the slots, held as long as the session lives. The function's name sets its slots apart.
TAKE_SLOT = """
SELECT slot FROM generate_series(1, %s) AS slot
WHERE pg_try_advisory_lock(hashtext(current_setting('application_name')), slot)
LIMIT 1
"""


class NotAskedAgain(psycopg.OperationalError):
    """The database did not answer a moment ago."""


class SecretUnreadable(psycopg.OperationalError):
    """The login of the database is not to be had."""


class NoSlot(psycopg.errors.TooManyConnections):
    """The database answers, and other environments of the function have all sessions that it may open."""


class PoolerUnusable(psycopg.OperationalError):
    """The pooler breaks transactions apart."""


class NotInstalled(psycopg.OperationalError):
    """Tables, functions or rights of this version are missing, and the login may not make them."""


class SettingsRefused(psycopg.OperationalError):
    """A transaction could not begin as it must; whatever it was for has not been looked at."""


class Session(psycopg.Connection[Any]):
    """A connection in autocommit mode, limited to what one job needs by `limit`."""

    _begin: str | None = None  # what a transaction begins with; None where the session itself is ours

    @property
    def is_pooled(self) -> bool:
        """Whether the sessions behind this connection serve other clients too."""
        return self._begin is not None

    def limit(self, role: Role | None, settings: Mapping[str, int | str], *, most_readers: int) -> None:
        """Bound its statements by *settings*, and leave to it the rights of *role*, as soon as these are granted.

        Raises:
            NoSlot: as a reader, there are *most_readers* sessions of its name already.
            PoolerUnusable: behind a pooler in statement mode.
            NotOurs: another role has made the schema in which our tables would be.
        """
        # A pooler tells its clients a number of its own, by which they may cancel.
        row = self.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
        if row == (self.info.backend_pid,):
            self._limit_session(role, settings, most_readers)
        else:
            self._limit_transactions(role, settings)

    def execute_alone(self, query: sql.Composed) -> None:
        """Run a statement that no transaction may hold; behind a pooler without any of our settings."""
        psycopg.Cursor(self).execute(query, prepare=False)

    def leave(self) -> None:
        """Have the rights of the login again: for what only the owner of the table may do."""
        if self._begin is None:
            self.execute("SET ROLE NONE")
        else:
            self._begin += "; SET LOCAL ROLE NONE"

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Any]:
        """Begin a transaction with its settings, or a nested one; as in psycopg otherwise."""
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
        self.prepare_threshold = None  # a statement would be prepared in one session and looked for in another
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
        except psycopg.DataError as error:  # the role is gone: no fault of what is to be stored
            self._give_up()
            raise SettingsRefused("a transaction's settings were refused") from error
        except psycopg.Error:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Roll back, where there is a connection left to do it; without one the server does."""
        if self.closed:
            return
        try:
            self.rollback()
        except psycopg.OperationalError:
            self.close()


def _beginning(mode: str, settings: list[str]) -> str:
    """Of a transaction, in one message: it takes no round trip more than BEGIN alone."""
    return "; ".join([f"BEGIN {mode}", *(f"SET LOCAL {setting}" for setting in settings)])


class _PooledCursor(psycopg.Cursor[Any]):
    """Wraps a statement that stands alone into a transaction, which brings the settings."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        connection = self.connection
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(query, params, **options)
        with connection.transaction():
            return super().execute(query, params, **options)
