"""The sockets of the WebSocket API's port, as long as they carry plain posts to connections.

A broadcast is a post for each subscriber, over sockets that are kept. The few shapes of request that posters send are
read here, at a fraction of what a whole HTTP server costs; a socket that brings anything else is handed over to
aiohttp with that request, and stays there.
"""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus

from local.management import DONE, Management, Reply
from local.sigv4 import SignedRequest

# RFC 9112, sections 3 and 5, less than it allows: no query, no obsolete folding, ASCII only.
_HEAD = re.compile(rb"POST (/[!->@-~]*) HTTP/1\.1((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*)+)")
_HEAD_BYTES = 16 * 1024
# What changes how a request is read or answered; HTTP has one implementation of that here, and it is not this one.
_NOT_PLAIN = frozenset({"connection", "expect", "transfer-encoding", "upgrade"})


class _NotPlain(Exception):
    """This request is none of those that are answered here."""


class Line(asyncio.Protocol):
    """One socket: answers plain posts, and makes way for another protocol at the first request that is none."""

    def __init__(
        self,
        management: Management,
        body_bytes: int,
        lines: set["Line"],
        otherwise: Callable[[], asyncio.Protocol],
    ) -> None:
        """Post through *management* what has up to *body_bytes*; be among *lines* while open and not handed over."""
        self._management = management
        self._body_bytes = body_bytes
        self._lines = lines
        self._otherwise = otherwise
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        self._transport = transport
        self._lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._lines.discard(self)

    def close(self) -> None:
        """Hang up once what was answered is sent."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        self._unread = b""
        try:
            while data:
                end = self._answer(data)
                if not end:
                    self._unread = data
                    return
                data = data[end:]
        except _NotPlain:
            self._hand_over(data)

    def _answer(self, data: bytes) -> int:
        """Answer the request at the beginning of *data*; return where it ends, 0 while that has not come.

        Raises:
            _NotPlain: it is no plain post; nothing was answered.
        """
        request, end = _read(data, self._body_bytes)
        if request is None:
            return 0
        connection_id = self._management.connection_id(request.target)
        if connection_id is None:
            raise _NotPlain
        reply = self._management.answer(request, connection_id)
        self._transport.write(_DONE if reply is DONE else _bytes(reply))
        return end

    def _hand_over(self, data: bytes) -> None:
        self._lines.discard(self)
        successor = self._otherwise()
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        successor.data_received(data)


def _read(data: bytes, body_bytes: int) -> tuple[SignedRequest | None, int]:
    """Read the request at the beginning of *data*, and where it ends; None while it is incomplete.

    Raises:
        _NotPlain: it is no plain post, or longer than one may be.
    """
    head_end = data.find(b"\r\n\r\n", 0, _HEAD_BYTES)
    if head_end < 0:
        if len(data) >= _HEAD_BYTES or data[:5] != b"POST "[: len(data)]:
            raise _NotPlain
        return None, 0
    match = _HEAD.fullmatch(data, 0, head_end)
    if match is None:
        raise _NotPlain
    headers: dict[str, list[str]] = {}
    for line in match[2].decode("ascii").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip(" \t"))
    length = headers.get("content-length", ())
    if len(length) != 1 or not length[0].isdigit() or int(length[0]) > body_bytes or not _NOT_PLAIN.isdisjoint(headers):
        raise _NotPlain
    end = head_end + 4 + int(length[0])
    if len(data) < end:
        return None, 0
    return SignedRequest("POST", match[1].decode("ascii"), headers, data[head_end + 4 : end]), end


def _bytes(reply: Reply) -> bytes:
    head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\nContent-Length: {len(reply.body)}\r\n"
    if reply.body:
        head += "Content-Type: application/json\r\n"
    if reply.error:
        head += f"x-amzn-ErrorType: {reply.error}\r\n"
    return f"{head}\r\n".encode() + reply.body


_DONE = _bytes(DONE)  # nearly all answers
