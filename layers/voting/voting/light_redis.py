"""A client of Redis with the few commands that a first response needs; redis-py does the others.

Importing redis-py takes longer than everything else that a vote needs. docs/decisions/0031-cold-start.md says how long.
"""

import hashlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from redis.exceptions import ConnectionError as Broken
from redis.exceptions import MovedError, NoScriptError, RedisError
from redis.exceptions import TimeoutError as TimedOut

from voting.light_connection import LightConnection, Target, pack

if TYPE_CHECKING:
    from redis import Redis

Word = bytes | str | int | float


def _time(response: list[bytes]) -> tuple[int, int]:
    seconds, microseconds = response
    return int(seconds), int(microseconds)


class LightRedis:
    """A client with one connection, which opens with the first command. For one thread.

    Its methods are those of `redis.Redis`, and so are their names, arguments, results and exceptions. Any other method
    is that of a whole `redis.Redis`, made when it is first asked for one.
    """

    def __init__(self, target: Target, *, timeout_s: float, retries: int, whole: "Callable[[], Redis]") -> None:
        """*whole* makes the other client. A command whose connection broke is repeated up to *retries* times."""
        self._timeout_s = timeout_s
        self._retries = retries
        self._make_whole = whole
        self._whole: Redis | None = None
        self._connection = LightConnection(target, timeout_s)
        self.connection_pool = Pool(self._connection)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._whole is None:
            self._whole = self._make_whole()
        return getattr(self._whole, name)

    def get_connection_kwargs(self) -> dict[str, Any]:
        """What is known of the connections without opening one."""
        return {"socket_timeout": self._timeout_s}

    def time(self) -> tuple[int, int]:
        return _time(self.run([pack("TIME")])[0])

    def register_script(self, script: str) -> "Script":
        return Script(self, script)

    def pipeline(self, *, transaction: Literal[False]) -> "Pipeline":  # noqa: ARG002 - the name is redis-py's
        """Return a pipeline without MULTI, the only kind there is here."""
        return Pipeline(self)

    def close(self) -> None:
        """Close all connections."""
        self._connection.disconnect()
        if self._whole is not None:
            self._whole.close()

    def run(self, commands: Sequence[bytes]) -> list[Any]:
        """Send the packed *commands* at once, and return the response to each.

        Raises:
            redis.RedisError: the first one that is an error; or Redis did not answer.
        """
        for moves in (1, 0):
            for retries in range(self._retries, -1, -1):
                try:
                    return self._attempt(commands)
                except (Broken, TimedOut):
                    self._connection.disconnect()
                    if not retries:
                        raise
                except MovedError:  # nothing was executed; the connection knows where to go
                    if not moves:
                        raise
                    break
        raise AssertionError  # the loops end by return or raise

    def _attempt(self, commands: Sequence[bytes]) -> list[Any]:
        self._connection.send_packed_command(commands)
        responses: list[Any] = []
        failures: list[RedisError] = []
        for _ in commands:
            try:
                responses.append(self._connection.read_response())
            except (Broken, TimedOut):  # nothing more will come
                raise
            except RedisError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return responses


class Pool:
    """The one connection of a client, as a pool of it."""

    def __init__(self, connection: LightConnection) -> None:
        self._connection = connection

    def get_connection(self) -> LightConnection:
        """Return the connection, open.

        Raises:
            redis.RedisError: Redis cannot be reached, or refused the login.
        """
        self._connection.connect()
        return self._connection

    def disconnect(self) -> None:
        """Close the connection; it opens again with its next command."""
        self._connection.disconnect()


class Script:
    """A Lua script, called by its hash; its text is sent where Redis does not know it."""

    def __init__(self, redis: LightRedis, script: str) -> None:
        self._redis = redis
        self._script = script.encode()
        self._sha = ""

    def __call__(self, keys: Sequence[Word] = (), args: Sequence[Word] = (), client: Any = None) -> Any:
        if client is not None:  # a client of redis-py, for commands that must share a connection
            return client.eval(self._script, len(keys), *keys, *args)
        if not self._sha:
            self._sha = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()
        try:
            return self._redis.run([pack("EVALSHA", self._sha, len(keys), *keys, *args)])[0]
        except NoScriptError:
            return self._redis.run([pack("EVAL", self._script, len(keys), *keys, *args)])[0]


class Pipeline:
    """Commands that are sent at once; each answers by itself."""

    def __init__(self, redis: LightRedis) -> None:
        self._redis = redis
        self._commands: list[bytes] = []
        self._readers: list[Callable[[Any], Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._commands.clear()
        self._readers.clear()

    def time(self) -> None:
        self._add(_time, "TIME")

    def hmget(self, key: str, *fields: str) -> None:
        self._add(list, "HMGET", key, *fields)

    def zrem(self, key: str, *members: str) -> None:
        self._add(int, "ZREM", key, *members)

    def llen(self, key: str) -> None:
        self._add(int, "LLEN", key)

    def execute(self) -> list[Any]:
        """Return the responses in order.

        Raises:
            redis.RedisError: as `LightRedis.run`.
        """
        if not self._commands:
            return []
        responses = self._redis.run(self._commands)
        return [read(response) for read, response in zip(self._readers, responses, strict=True)]

    def _add(self, reader: Callable[[Any], Any], *words: Word) -> None:
        self._commands.append(pack(*words))
        self._readers.append(reader)
