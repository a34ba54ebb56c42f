"""Persistent, non-blocking HTTP/1.1 connections: one thread keeps hundreds of them busy.

They speak the part of RFC 9112 that the management API uses. They are bare sockets, because asyncio's TLS alone costs
as much as the rest of a post.
"""

import errno
import selectors
import socket
import ssl
import time
from typing import Any

READ_BYTES = 16384  # one TLS record: what stayed in the TLS buffer, no selector would report
RESOLVED_FOR_S = 60.0

Address = tuple[int, tuple[Any, ...]]  # family, and the argument of connect()


class Endpoint:
    """The host and port that connections go to, with or without TLS."""

    def __init__(self, host: str, port: int, *, secure: bool) -> None:
        self.host = host
        self.tls = ssl.create_default_context() if secure else None
        self._port = port
        self._addresses: list[Address] = []
        self._resolved_at = float("-inf")

    def address(self) -> Address:
        """Return the address to try next; raise OSError if the name has none."""
        if time.monotonic() - self._resolved_at > RESOLVED_FOR_S:
            found = socket.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)
            self._addresses = [(family, address) for family, _, _, _, address in found]
            self._resolved_at = time.monotonic()
        return self._addresses[0]

    def avoid(self, address: Address) -> bool:
        """Skip *address* until the name is resolved again; return whether there is another one."""
        if len(self._addresses) > 1 and address in self._addresses:
            self._addresses.remove(address)
        return self._addresses[0] != address


class HttpConnection:
    """One connection, which carries one request at a time."""

    __slots__ = (
        "_address",
        "_awaited",
        "_endpoint",
        "_is_open",
        "_received",
        "_selector",
        "_shaking",
        "_socket",
        "_unsent",
        "is_closing",
        "is_doubtful",
        "is_slow",
        "recipient",
        "sent_at",
    )

    def __init__(self, endpoint: Endpoint, selector: selectors.BaseSelector) -> None:
        """Begin to connect. *selector* reports when to call `proceed`; the data of its key is this object.

        Raises:
            OSError: the host has no address, or none that can be reached from here.
        """
        self.recipient: str | None = None  # connection id of the request under way; None while idle
        self.sent_at = 0.0
        self.is_slow = False
        self.is_closing = False  # the server has announced that it closes this connection
        self.is_doubtful = False  # idle for so long that the server may have closed it
        self._endpoint = endpoint
        self._selector = selector
        self._awaited = 0
        self._unsent = b""
        self._received = b""
        self._connect()

    def send(self, request: bytes) -> None:
        """Send *request* as soon as the connection is ready; raise OSError if it is broken."""
        self._unsent = request
        if self._is_open:
            self._flush()

    def proceed(self) -> int | None:
        """Send or receive what is possible now; return the status code once the whole response is here.

        Raises:
            OSError: the connection is broken.
        """
        if self._unsent:
            if self._is_open or self._open():
                self._flush()
            return None
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        if not data or self.recipient is None:
            raise ConnectionResetError
        if self._received:
            data = self._received + data
        status = self._status(data)
        self._received = data if status is None else b""
        return status

    def close(self) -> None:
        self._forget()
        self._socket.close()

    def avoid(self) -> None:
        """Make later connections try another address if this one was never established."""
        if not self._is_open:
            self._endpoint.avoid(self._address)

    def _connect(self) -> None:
        self._is_open = self._shaking = False
        while True:
            self._address = self._endpoint.address()
            self._socket = socket.socket(self._address[0], socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failure = self._socket.connect_ex(self._address[1])
            if failure in {0, errno.EINPROGRESS}:
                break
            self._socket.close()
            if not self._endpoint.avoid(self._address):
                raise OSError(failure, "connect")
        self._await(selectors.EVENT_WRITE)

    def _open(self) -> bool:
        """Continue to connect and shake hands; return whether the first request can be sent."""
        if not self._shaking:
            failure = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure and not self._endpoint.avoid(self._address):
                raise OSError(failure, "connect")
            if failure:
                self.close()
                self._connect()
                return False
            if self._endpoint.tls:
                self._secure(self._endpoint.tls)
        if isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.do_handshake()
            except ssl.SSLWantReadError:
                self._await(selectors.EVENT_READ)
                return False
            except ssl.SSLWantWriteError:
                self._await(selectors.EVENT_WRITE)
                return False
        self._is_open = True
        return True

    def _secure(self, tls: ssl.SSLContext) -> None:
        self._forget()
        self._socket = tls.wrap_socket(self._socket, server_hostname=self._endpoint.host, do_handshake_on_connect=False)
        self._shaking = True
        self._await(selectors.EVENT_WRITE)

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except ssl.SSLWantReadError:
            self._await(selectors.EVENT_READ)
            return
        self._unsent = self._unsent[sent:]
        self._await(selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ)

    def _await(self, events: int) -> None:
        """Make the selector report *events* from now on, and no others."""
        if not self._awaited:
            self._selector.register(self._socket, events, self)
        elif events != self._awaited:
            self._selector.modify(self._socket, events, self)
        self._awaited = events

    def _forget(self) -> None:
        if self._awaited:
            self._selector.unregister(self._socket)
            self._awaited = 0

    def _status(self, response: bytes) -> int | None:
        head, complete, body = response.partition(b"\r\n\r\n")
        if not complete:
            return None
        head = head.lower()
        _, found, length = head.partition(b"\r\ncontent-length:")
        try:
            if found:
                if len(body) < int(length.partition(b"\r\n")[0]):
                    return None
            elif b"\r\ntransfer-encoding:" in head and not body.endswith(b"0\r\n\r\n"):
                return None
            status = int(head[9:12])
        except ValueError as error:
            raise ConnectionAbortedError("the response is not HTTP") from error
        self.is_closing = b"\r\nconnection: close" in head
        self.is_doubtful = False
        return status


class ConnectionPool:
    """The open connections to one endpoint, busy and idle."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.selector = selectors.DefaultSelector()
        self.idle: list[HttpConnection] = []
        self._endpoint = endpoint
        self._all: set[HttpConnection] = set()

    def __len__(self) -> int:
        return len(self._all)

    def busy(self) -> list[HttpConnection]:
        return [connection for connection in self._all if connection.recipient is not None]

    def open(self) -> HttpConnection:
        connection = HttpConnection(self._endpoint, self.selector)
        self._all.add(connection)
        return connection

    def drop(self, connection: HttpConnection) -> None:
        connection.close()
        self._all.remove(connection)

    def drop_busy(self) -> None:
        """Close the connections whose response is still to come: the next request would take it for its own."""
        for connection in self.busy():
            self.drop(connection)

    def drop_closed(self) -> None:
        """Drop the idle connections that the server has closed, and mark the others as doubtful."""
        for key, _ in self.selector.select(0):
            connection: HttpConnection = key.data
            try:
                connection.proceed()
            except OSError:
                self.idle.remove(connection)
                self.drop(connection)
        for connection in self.idle:
            connection.is_doubtful = True

    def close(self) -> None:
        self.idle.clear()
        for connection in tuple(self._all):
            self.drop(connection)
        self.selector.close()
