"""A connection to Redis that is kept for one script, so that a call costs little more than its round trip."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError

from voting.light_connection import pack

if TYPE_CHECKING:
    from redis import Redis


class WaitRefused(RedisError):
    """The script has run, and Redis refuses to say whether a replica has what it wrote."""


class ScriptConnection:
    """Runs one Lua script on a connection of its own, taken from the pool at the first use. For one thread.

    `Redis.evalsha` takes a connection, checks it, returns it and records metrics of each step, which takes as long as
    the round trip itself.
    """

    def __init__(self, redis: "Redis", script: str) -> None:
        self._pool = redis.connection_pool
        self._script = script.encode()
        self._sha = hashlib.sha1(self._script, usedforsecurity=False).hexdigest().encode()
        self._connection: Any = None  # a redis.connection.Connection, most of whose methods have no types

    def open(self) -> None:
        """Make sure that the connection is alive.

        Raises:
            redis.RedisError: Redis cannot be reached, or refused the login; nothing was sent.
        """
        if self._connection is None:
            self._connection = self._pool.get_connection()
            return
        self._connection.connect()  # does nothing if it is connected
        if self._is_unusable(self._connection):
            self._connection.disconnect()
            self._connection.connect()

    def call(self, keys: Sequence[str], *args: bytes | int) -> Any:
        """Run the script on *keys*; `open` must have succeeded just before.

        Raises:
            redis.RedisError: Redis refused, or did not answer. Without an answer, the script may have run.
        """
        return self._run(keys, args, then=b"")

    def call_replicated(self, keys: Sequence[str], *args: bytes | int, within_ms: int) -> tuple[Any, int]:
        """Run the script as `call` does; return its response, and how many replicas have what it wrote.

        Returns once one replica has it, or after *within_ms* (at least 1). Both commands are sent at once, so the wait
        costs no more than the replica's own answer. https://valkey.io/commands/wait/

        Raises:
            WaitRefused: the script has run.
            redis.RedisError: as `call`.
        """
        response = self._run(keys, args, then=pack(b"WAIT", b"1", b"%d" % within_ms))
        try:
            return response, int(self._connection.read_response())
        except (ResponseError, BusyLoadingError) as error:  # the latter is no ResponseError
            raise WaitRefused(str(error)) from error

    def _run(self, keys: Sequence[str], args: Sequence[bytes | int], then: bytes) -> Any:
        """Run the script and send *then*, whose response the caller reads."""
        names = (key.encode() for key in keys)
        rest = (b"%d" % len(keys), *names, *(arg if isinstance(arg, bytes) else b"%d" % arg for arg in args))
        try:
            return self._ask((b"EVALSHA", self._sha, *rest), then)
        except NoScriptError:  # the first call ever, or Redis was restarted
            if then:
                with suppress(ResponseError):  # it is sent again, and refused again
                    self._connection.read_response()
            return self._ask((b"EVAL", self._script, *rest), then)

    def _ask(self, command: tuple[bytes, ...], then: bytes) -> Any:
        self._connection.send_packed_command([pack(*command) + then])
        return self._connection.read_response()

    @staticmethod
    def _is_unusable(connection: Any) -> bool:
        """Whether Redis has closed it, or it holds an answer that no call has read."""
        try:
            return bool(connection.can_read())
        except (RedisError, OSError):
            return True
