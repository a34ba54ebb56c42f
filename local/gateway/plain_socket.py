"""A socket that is served directly while it carries plain requests, and by aiohttp from the first other request on."""

import asyncio
import socket
from collections.abc import Callable

from local.gateway.any_http import hand_over
from local.gateway.plain_request import NotPlain, PlainReader, PlainRequest

Protocols = Callable[[], asyncio.Protocol]  # makes the protocol that takes over a socket


class PlainSocket(asyncio.Protocol):
    """Buffers what comes, and cuts it into requests. A subclass answers them when it is woken."""

    def __init__(
        self, reader: PlainReader, open_sockets: set["PlainSocket"], successor: Protocols, ahead_bytes: int
    ) -> None:
        """Read with *reader*; be in *open_sockets* while open and not handed over to *successor*.

        Beyond *ahead_bytes*, which must exceed one request, no more is read from a client that sends ahead of its
        answers.
        """
        self._reader = reader
        self._open_sockets = open_sockets
        self._successor = successor
        self._ahead_bytes = ahead_bytes
        self._unread = b""
        self._is_choked = False  # by answers that the client does not read
        self._client_has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        # asyncio does this only for listening sockets that were made with a protocol number.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self._open_sockets.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._open_sockets.discard(self)
        self._unread = b""  # requests that wait for their turn end here

    def data_received(self, data: bytes) -> None:
        self._unread = self._unread + data if self._unread else data
        if len(self._unread) > self._ahead_bytes:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Answer what came before; the client may have closed its half only (RFC 9112, section 9.6)."""
        self._client_has_ended = True
        self._wake()
        return True

    def pause_writing(self) -> None:
        self._is_choked = True

    def resume_writing(self) -> None:
        self._is_choked = False
        self._wake()

    def close(self) -> "asyncio.Task[None] | None":
        """Close the socket: at once if nothing is being answered, else after that, by the task that is returned."""
        self._transport.close()
        return None

    def _wake(self) -> None:
        """Take a request now or soon: there may be one, or the client has ended."""
        raise NotImplementedError

    def _next(self) -> PlainRequest | None:
        """Return the next request, which stays unread; None if there is none to answer now.

        What is not plain is handed over here, and a socket whose client has ended is closed.
        """
        if self._is_choked or self._transport.is_closing():
            return None
        try:
            request = self._reader.read(self._unread)
        except NotPlain:
            self._hand_over()
            return None
        if request is None and self._client_has_ended:
            self._finish()
        return request

    def _advance(self, request: PlainRequest) -> None:
        """Skip *request*, which has been or will be answered."""
        self._unread = self._unread[request.end :]
        if len(self._unread) <= self._ahead_bytes:
            self._transport.resume_reading()

    def _has_more(self) -> bool:
        """Tell whether to wake again after an answer."""
        return bool(self._unread) or self._client_has_ended

    def _finish(self) -> None:
        """Close, or have the application answer a request that will never be whole."""
        if self._unread:
            self._hand_over()
        else:
            self._transport.close()

    def _hand_over(self) -> None:
        self._open_sockets.discard(self)
        self._transport.resume_reading()
        hand_over(self._transport, self._unread, self._successor(), has_ended=self._client_has_ended)
