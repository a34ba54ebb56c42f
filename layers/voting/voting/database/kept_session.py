"""The session of the database that a function keeps from one invocation to the next."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg

from voting.database.credentials import Credentials
from voting.database.limits import Limits
from voting.database.session import NotAskedAgain, Session
from voting.reason import explain

T = TypeVar("T")

CONNECT_TIMEOUT_S = 2  # the minimum of libpq
PATIENCE_S = 1.0  # longest time of a read
REST_S = 1.0  # after a failed connect, during which viewers need not wait for another one
READERS = 20  # sessions that all reading environments of one function may hold at once


class KeptSession:
    """A session that is opened with its first use, and replaced once it is broken."""

    def __init__(self, credentials: Credentials, limits: Limits) -> None:
        self._credentials = credentials
        self._limits = limits
        self._session: Session | None = None
        self._rests_until = 0.0
        self._failure = ""  # the reason, in words for an operator

    def get(self) -> Session:
        """Return the session, in autocommit mode.

        Raises:
            psycopg.OperationalError: the database did not answer; it is not asked again for one second.
            psycopg.errors.TooManyConnections: a subclass: the database answers, but all slots of readers are taken.
        """
        if self._session is not None and not self._session.closed:
            return self._session
        if time.monotonic() < self._rests_until:
            raise NotAskedAgain(self._failure)
        try:
            self._session = self._connect()
        except psycopg.OperationalError as error:
            self._rests_until = time.monotonic() + REST_S
            self._failure = explain(error)
            raise
        return self._session

    def read(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Do *work*, which must be safe to repeat; do it again if the kept session turns out to be dead.

        Raises:
            psycopg.OperationalError: the new session failed too, or the work took longer than a second.
        """
        is_kept = self._session is not None
        try:
            return self._within_patience(work)
        except psycopg.OperationalError:
            if not is_kept:
                raise
        return self._within_patience(work)

    def close(self) -> None:
        """Close the session; the next use opens a new one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _within_patience(self, work: Callable[[psycopg.Connection], T]) -> T:
        session = self.get()
        try:
            with _cut_after(session, PATIENCE_S):
                return work(session)
        except psycopg.OperationalError:
            self.close()
            raise

    def _connect(self) -> Session:
        try:
            return self._open()
        except psycopg.errors.TooManyConnections:  # no free slot; the login itself works
            raise
        except psycopg.OperationalError:
            if not self._credentials.expire():
                raise
            return self._open()

    def _open(self) -> Session:
        session = Session.connect(self._conninfo(), autocommit=True)
        try:
            session.limit(self._limits.role, self._limits.settings(), most_readers=READERS)
        except psycopg.Error:
            session.close()
            raise
        return session

    def _conninfo(self) -> str:
        return self._credentials.conninfo(
            connect_timeout=CONNECT_TIMEOUT_S,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=5_000,
            application_name=self._limits.name,
            # Whatever the defaults of the database or the role: ids are sent as UTF-8, and names come back as text.
            client_encoding="UTF8",
        )


@contextmanager
def _cut_after(session: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Break the connection if the work takes longer: a frozen server does not honour its own statement timeout."""
    end = socket.socket(fileno=os.dup(session.fileno()))
    timer = threading.Timer(seconds, end.shutdown, (socket.SHUT_RDWR,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        end.close()
