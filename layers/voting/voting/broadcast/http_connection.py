"""Kept HTTP/1.1 connections that never block: hundreds of them beside each other on one thread.

RFC 9112, as far as the management API makes use of it. Bare sockets, since asyncio's TLS alone costs as much as all
the rest of a post.
"""

import errno
import selectors
import socket
import ssl
import time
from typing import Any

READ_BYTES = 16384  # as much as a TLS record holds, so that nothing stays behind where no selector sees it
RESOLVED_FOR_S = 60.0

Address = tuple[int, tuple[Any, ...]]  # family, and what connect takes of it


class Endpoint:
    """Where lines lead: a host and a port, with TLS or without."""

    def __init__(self, host: str, port: int, *, secure: bool) -> None:
        self.host = host
        self.tls = ssl.create_default_context() if secure else None
        self._port = port
        self._addresses: list[Address] = []
        self._resolved_at = float("-inf")

    def address(self) -> Address:
        """The address that is to be tried next; raises OSError where the name has none."""
        if time.monotonic() - self._resolved_at > RESOLVED_FOR_S:
            found = socket.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)
            self._addresses = [(family, address) for family, _, _, _, address in found]
            self._resolved_at = time.monotonic()
        return self._addresses[0]

    def avoid(self, address: Address) -> bool:
        """Leave *address* alone until the name is resolved anew; return whether there is another one."""
        if len(self._addresses) > 1 and address in self._addresses:
            self._addresses.remove(address)
        return self._addresses[0] != address


class Line:
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
        "asked_at",
        "connection_id",
        "is_closing",
        "is_doubtful",
        "is_slow",
    )

    def __init__(self, endpoint: Endpoint, selector: selectors.BaseSelector) -> None:
        """Begin to connect; *selector* tells, with this line as its data, when `proceed` is due.

        Raises:
            OSError: the host has no address, or none that can be reached from here.
        """
        self.connection_id: str | None = None  # whom it posts to at the moment
        self.asked_at = 0.0
        self.is_slow = False
        self.is_closing = False  # the other side has said so
        self.is_doubtful = False  # it was kept for so long that the other side may have closed it
        self._endpoint = endpoint
        self._selector = selector
        self._awaited = 0
        self._unsent = b""
        self._received = b""
        self._connect()

    def ask(self, request: bytes) -> None:
        """Send *request*, as soon as that can be done; raises OSError where the line is broken."""
        self._unsent = request
        if self._is_open:
            self._send()

    def proceed(self) -> int | None:
        """Go on with what has become possible; return the status of the answer once all of it is here.

        Raises:
            OSError: the line is broken.
        """
        if self._unsent:
            if self._is_open or self._open():
                self._send()
            return None
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        if not data or self.connection_id is None:
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
        """Have later lines try another address if this one never came to be."""
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
        """Go on connecting and shaking hands; return whether the line is ready for its first request."""
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

    def _send(self) -> None:
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
        """Have the selector tell of *events* from now on, and of no others."""
        if not self._awaited:
            self._selector.register(self._socket, events, self)
        elif events != self._awaited:
            self._selector.modify(self._socket, events, self)
        self._awaited = events

    def _forget(self) -> None:
        if self._awaited:
            self._selector.unregister(self._socket)
            self._awaited = 0

    def _status(self, answer: bytes) -> int | None:
        head, complete, body = answer.partition(b"\r\n\r\n")
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
            raise ConnectionAbortedError("that is no HTTP") from error
        self.is_closing = b"\r\nconnection: close" in head
        self.is_doubtful = False
        return status


class Lines:
    """The open lines, those in use and those that idle."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.selector = selectors.DefaultSelector()
        self.idle: list[Line] = []
        self._endpoint = endpoint
        self._all: set[Line] = set()

    def __len__(self) -> int:
        return len(self._all)

    def busy(self) -> list[Line]:
        return [line for line in self._all if line.connection_id is not None]

    def open(self) -> Line:
        line = Line(self._endpoint, self.selector)
        self._all.add(line)
        return line

    def drop(self, line: Line) -> None:
        line.close()
        self._all.remove(line)

    def drop_busy(self) -> None:
        """Close lines whose answer is still to come: the next request would get it for its own."""
        for line in self.busy():
            self.drop(line)

    def drop_closed(self) -> None:
        """Close idle lines that the other side has closed, and doubt the rest."""
        for key, _ in self.selector.select(0):
            line: Line = key.data
            try:
                line.proceed()
            except OSError:
                self.idle.remove(line)
                self.drop(line)
        for line in self.idle:
            line.is_doubtful = True

    def close(self) -> None:
        self.idle.clear()
        for line in tuple(self._all):
            self.drop(line)
        self.selector.close()
