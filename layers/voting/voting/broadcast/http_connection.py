"""Persistent, non-blocking HTTP/1.1 connections: one thread keeps hundreds of them busy.

They speak the part of RFC 9112 that the management API uses. They are bare sockets, because asyncio's TLS alone costs
as much as the rest of a post.
"""

import selectors
import socket
import ssl
import time

from voting.happy_eyeballs import Address, Lookup, Race, interleave

READ_BYTES = 16384  # one TLS record: what stayed in the TLS buffer, no selector would report
RESOLVED_FOR_S = 60.0
RESOLVE_WITHIN_S = 2.0  # no post goes on while this thread waits for the resolver


class Endpoint:
    """The host and port that connections go to, with or without TLS, and which of its addresses work."""

    def __init__(self, host: str, port: int, *, secure: bool, prefers_ipv6: bool = False) -> None:
        self.host = host
        self.tls = ssl.create_default_context() if secure else None
        self._port = port
        self._addresses: list[Address] = []
        self._first_family: int | None = socket.AF_INET6 if prefers_ipv6 else None
        self._lookup: Lookup | None = None
        self._resolve_at = float("-inf")

    def addresses(self) -> list[Address]:
        """Return the addresses in the order to try them; older ones if the resolver fails.

        Raises:
            OSError: the name has no address, or the resolver has not answered for 2 s.
        """
        if self._lookup or time.monotonic() >= self._resolve_at:
            self._resolve()
        if not self._addresses:
            raise OSError("the name is not resolved")
        return self._addresses

    def prefer(self, address: Address) -> None:
        """Try *address* first from now on, and its family first when the name is resolved again: it works."""
        self._first_family = address[0]
        if self._addresses[0] != address and address in self._addresses:
            self._addresses.remove(address)
            self._addresses.insert(0, address)

    def avoid(self, address: Address) -> None:
        """Try *address* last, until the name is resolved again."""
        if address in self._addresses:
            self._addresses.remove(address)
            self._addresses.append(address)

    def _resolve(self) -> None:
        began = time.monotonic()
        self._lookup = self._lookup or Lookup(self.host, self._port)
        try:
            found = self._lookup.addresses(RESOLVE_WITHIN_S if began >= self._resolve_at else 0.0)
        except OSError as error:
            if not isinstance(error, TimeoutError):  # else it goes on
                self._lookup = None
            now = time.monotonic()
            self._resolve_at = max(self._resolve_at, now + (now - began))  # at most half of the time is spent waiting
        else:
            self._lookup = None
            self._addresses = interleave(found, self._first_family)
            self._resolve_at = time.monotonic() + RESOLVED_FOR_S


class HttpConnection:
    """One connection, which carries one request at a time."""

    __slots__ = (
        "_address",
        "_awaited",
        "_endpoint",
        "_is_open",
        "_race",
        "_received",
        "_selector",
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
            OSError: the host has no address, or all fail at once.
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
        self._is_open = False
        self._race: Race | None = Race(endpoint.addresses(), selector, self)

    @property
    def is_connecting(self) -> bool:
        """Whether `proceed` is also to be called now and then: the next address may be due."""
        return self._race is not None

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
        if self._race is not None:
            self._race.close()
            return
        self._forget()
        self._socket.close()

    def avoid(self) -> None:
        """Make later connections try another address first if this one accepted, and never shook hands."""
        if self._race is None and not self._is_open:
            self._endpoint.avoid(self._address)

    def _open(self) -> bool:
        """Continue to connect and shake hands; return whether the first request can be sent."""
        if self._race is not None and not self._is_connected(self._race):
            return False
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
        self._endpoint.prefer(self._address)
        return True

    def _is_connected(self, race: Race) -> bool:
        """Continue with *race*; return whether it is over, and `_socket` the one that won it."""
        won = race.advance()
        if won is None:
            return False
        self._race = None
        self._socket, self._address = won
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls := self._endpoint.tls:
            self._socket = tls.wrap_socket(
                self._socket, server_hostname=self._endpoint.host, do_handshake_on_connect=False
            )
        return True

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
        """Return how many sockets there are: a connection may have several until one of them is connected."""
        return len(self.selector.get_map())

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
