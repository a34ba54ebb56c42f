"""One connection to Redis, for functions that a person waits for: quick to import, and otherwise like redis-py's.

It speaks RESP2 and raises the exceptions of redis-py. It follows our keys to another node of a cluster, as
`voting.cluster` makes redis-py do.
"""

import select
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import hiredis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ExecAbortError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as TimedOut

if TYPE_CHECKING:
    import ssl

REDIS_TIMEOUT_S = 0.9  # two attempts and the response must fit into the 2 s that a voter waits at most
READ_BYTES = 65536
CLOSED = "Connection closed by server."

Address = tuple[str, int]

# By the code that an error begins with, as in redis-py (BaseParser.EXCEPTION_CLASSES); all others are a ResponseError.
ERRORS: dict[str, type[RedisError]] = {
    "OOM": OutOfMemoryError,
    "WRONGPASS": AuthenticationError,
    "EXECABORT": ExecAbortError,
    "LOADING": BusyLoadingError,
    "NOSCRIPT": NoScriptError,
    "READONLY": ReadOnlyError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "ASK": AskError,
    "TRYAGAIN": TryAgainError,
    "MOVED": MovedError,
    "CLUSTERDOWN": ClusterDownError,
    "CROSSSLOT": ClusterCrossSlotError,
    "MASTERDOWN": MasterDownError,
}
# Errors without a code of their own, by their whole text.
PLAIN_ERRORS: dict[str, type[RedisError]] = {
    "max number of clients reached": Broken,
    "invalid password": AuthenticationError,
    "wrong number of arguments for 'auth' command": AuthenticationWrongNumberOfArgsError,
    "wrong number of arguments for 'AUTH' command": AuthenticationWrongNumberOfArgsError,
    "AUTH <password> called without any password configured for the default user. Are you sure your configuration is "
    "correct?": AuthenticationError,
    "Client sent AUTH, but no password is set": AuthenticationError,
}


def error_of(line: str) -> RedisError:
    """Return the exception for an error reply, without raising it."""
    code, _, text = line.partition(" ")
    if code == "ERR":
        return PLAIN_ERRORS.get(text, ResponseError)(text, status_code=code)
    kind = ERRORS.get(code)
    return ResponseError(line) if kind is None else kind(text, status_code=code)


def pack(*words: bytes | str | float) -> bytes:
    """Return a command as an array of bulk strings. redis-py's own packing takes any type, and three times as long."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)])


def _received(opened: socket.socket) -> bytes:
    data = opened.recv(READ_BYTES)
    if not data:
        raise Broken(CLOSED)
    return data


class Target(NamedTuple):
    """What a URL without options says."""

    address: Address
    secure: bool
    login: tuple[str, ...]  # the password, or user and password; nothing without a login
    database: int

    @classmethod
    def of(cls, url: str) -> "Target | None":
        """Read *url*; None if it is for redis-py: it has options, or names a socket file."""
        parts = urlsplit(url)
        if parts.query or parts.scheme not in {"redis", "rediss"}:
            return None
        login = tuple(unquote(word) for word in (parts.username, parts.password) if word)
        if parts.username and not parts.password:
            return None
        number = parts.path.replace("/", "")
        address = (unquote(parts.hostname or "localhost"), parts.port or 6379)
        return cls(address, parts.scheme == "rediss", login, int(number) if number.isdecimal() else 0)


class LightConnection:
    """A connection that opens with its first command, and again after it broke. For one thread."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        """Connect to *target*; each attempt to connect, and each response, may take *timeout_s*."""
        self._socket: socket.socket | None = None
        self._target = target
        self._timeout_s = timeout_s
        self._home: Address | None = None  # the node of a cluster that has our keys, if a node has named it
        self._peer = target.address
        self._tls: ssl.SSLContext | None = None
        self._reader = hiredis.Reader()

    def connect(self) -> None:
        """Connect and log in, unless that is done.

        Raises:
            redis.RedisError: Redis cannot be reached, or refused the login.
        """
        self._open()

    def _open(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        try:
            self._socket = opened = self._dial()
        except TimeoutError as error:
            raise TimedOut("Timeout connecting to server") from error
        except OSError as error:
            raise Broken(f"Error connecting to server: {error.strerror}") from error
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=error_of)
        try:
            self._log_in()
        except BaseException:
            self.disconnect()
            raise
        return opened

    def disconnect(self) -> None:
        """Close the connection, if it is open."""
        if self._socket is not None:
            self._socket.close()  # no shutdown: a forked process may still use its copy
            self._socket = None

    def __del__(self) -> None:
        self.disconnect()

    def send_packed_command(self, command: Sequence[bytes]) -> None:
        """Send *command* in its parts, to the node that is known to have our keys.

        Raises:
            redis.RedisError: it was not sent, or only in part.
        """
        if self._home is not None and self._home != self._peer:
            self.disconnect()
        opened = self._open()
        try:
            opened.sendall(b"".join(command))
        except TimeoutError as error:
            self.disconnect()
            raise TimedOut("Timeout writing to socket") from error
        except OSError as error:
            self.disconnect()
            raise Broken("Error while writing to socket.") from error

    def read_response(self) -> Any:
        """Return the next response.

        Raises:
            redis.ResponseError: it is an error.
            redis.RedisError: it did not come. The connection is closed.
        """
        response = self._next_response()
        if not isinstance(response, RedisError):
            return response
        if isinstance(response, MovedError):
            self._home = (response.host or self._peer[0], response.port)  # no host means the same node
        elif isinstance(response, Broken):  # such as LOADING
            self.disconnect()
        raise response

    def can_read(self) -> bool:
        """Whether something has come, or Redis has closed the connection: without a command, neither should be."""
        opened = self._open()
        if self._reader.has_data() or (self._tls is not None and opened.pending()):  # type: ignore[attr-defined] # with TLS
            return True
        poll = select.poll()
        poll.register(opened, select.POLLIN)
        return bool(poll.poll(0))

    def _dial(self) -> socket.socket:
        self._peer = self._home or self._target.address
        try:
            opened = socket.create_connection(self._peer, self._timeout_s)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._secured(opened) if self._target.secure else opened
        except OSError:
            self._home = None  # it may be gone for good; the entrance knows which node has taken over
            raise

    def _secured(self, opened: socket.socket) -> socket.socket:
        try:
            if self._tls is None:
                import ssl  # noqa: PLC0415 - only TLS needs it

                self._tls = ssl.create_default_context()
            return self._tls.wrap_socket(opened, server_hostname=self._peer[0])
        except BaseException:
            opened.close()
            raise

    def _log_in(self) -> None:
        """Log in and choose the database. Each is one exchange; with TLS there is at least one.

        The first response also brings what TLS 1.3 sends after its handshake. Otherwise, `can_read` would report it.
        """
        target = self._target
        commands = [pack("AUTH", *target.login)] if target.login else [pack("PING")] if target.secure else []
        if target.database:
            commands.append(pack("SELECT", target.database))
        for command in commands:
            self.send_packed_command([command])
            self.read_response()

    def _next_response(self) -> Any:
        if self._socket is None:
            raise Broken(CLOSED)
        try:
            while (response := self._reader.gets()) is False:
                self._reader.feed(_received(self._socket))
        except TimeoutError as error:
            self.disconnect()
            raise TimedOut("Timeout reading from socket") from error
        except OSError as error:
            self.disconnect()
            raise Broken("Error while reading from socket") from error
        except BaseException:  # what is left of the response must not be taken for the next one
            self.disconnect()
            raise
        return response
