"""The sockets of the WebSocket API's port, as long as they carry plain posts to connections.

A broadcast is a post for each subscriber, over sockets that are kept. The few shapes of request that posters send are
read here, at a fraction of what a whole HTTP server costs; a socket that brings anything else is handed over to
aiohttp with that request, and stays there.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from local.gateway.any_http import hand_over, may_become_plain
from local.gateway.management_api import DONE, Management, Reply
from local.sigv4 import SignedRequest

# RFC 9112, sections 3 and 5, less than it allows: no query, no obsolete folding, ASCII only.
_HEAD = re.compile(rb"POST (/[!->@-~]*) HTTP/1\.1((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*)+)")
_HEAD_BYTES = 16 * 1024
# What changes how a request is read or answered; HTTP has one implementation of that here, and it is not this one.
_NOT_PLAIN = frozenset({"connection", "expect", "transfer-encoding", "upgrade"})
_METHODS = (b"POST /",)
SLICE_S = 0.002  # of posts, between which the event loop sees to votes


class _NotPlain(Exception):
    """This request is none of those that are answered here."""


class Turns:
    """Who has something to be read, in order. A broadcast's posts come all at once, and make way for what is urgent."""

    def __init__(self, is_urgent: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """Serve all who wait at once, but a slice at a time while *is_urgent* says that somebody waits for all else."""
        self._is_urgent = is_urgent
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._goes_on = False

    def wait(self, serve: Callable[[], None]) -> None:
        """Have *serve* called, once, after those who wait already."""
        self._waiting.append(serve)
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Serve, and go on after whatever the event loop has to do by then."""
        end = self._clock() + SLICE_S
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft()()
                if self._clock() >= end and self._is_urgent():
                    break
        finally:
            self._goes_on = bool(self._waiting)
            if self._goes_on:
                asyncio.get_running_loop().call_soon(self._serve)


class Line(asyncio.Protocol):
    """One socket: answers plain posts, and makes way for another protocol at the first request that is none."""

    def __init__(
        self,
        management: Management,
        body_bytes: int,
        lines: set["Line"],
        turns: Turns,
        otherwise: Callable[[], asyncio.Protocol],
    ) -> None:
        """Post through *management* what has up to *body_bytes*; be among *lines* while open and not handed over."""
        self._management = management
        self._body_bytes = body_bytes
        self._lines = lines
        self._turns = turns
        self._otherwise = otherwise
        self._unread = b""
        self._ahead_bytes = 2 * (_HEAD_BYTES + body_bytes)  # of posts that wait for their turn; any one of them fits in
        self._waits = False  # for its turn
        self._is_choked = False  # by answers that the client does not read
        self._client_has_ended = False

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
        self._unread = self._unread + data if self._unread else data
        if len(self._unread) > self._ahead_bytes:
            self._transport.pause_reading()
        self._wait()

    def eof_received(self) -> bool:
        """Answer what came before; the client may have closed its half only (RFC 9112, section 9.6)."""
        self._client_has_ended = True
        self._wait()
        return True

    def pause_writing(self) -> None:
        self._is_choked = True

    def resume_writing(self) -> None:
        self._is_choked = False
        self._wait()

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._turns.wait(self._serve)

    def _serve(self) -> None:
        """Answer one request, or hand the socket over."""
        self._waits = False
        if self._is_choked or self._transport.is_closing():  # the client has gone, or the gateway goes
            return
        try:
            end = self._answer(self._unread)
        except _NotPlain:
            self._hand_over()
            return
        self._unread = self._unread[end:]
        if end and len(self._unread) <= self._ahead_bytes:
            self._transport.resume_reading()
        if end and self._unread:
            self._wait()
        elif self._client_has_ended:
            self._finish()

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

    def _finish(self) -> None:
        """Close, or have the application answer what is no whole request and will be none."""
        if self._unread:
            self._hand_over()
        else:
            self._transport.close()

    def _hand_over(self) -> None:
        self._lines.discard(self)
        self._transport.resume_reading()
        hand_over(self._transport, self._unread, self._otherwise(), has_ended=self._client_has_ended)


def _read(data: bytes, body_bytes: int) -> tuple[SignedRequest | None, int]:
    """Read the request at the beginning of *data*, and where it ends; None while it is incomplete.

    Raises:
        _NotPlain: it is no plain post, or longer than one may be.
    """
    head_end = data.find(b"\r\n\r\n", 0, _HEAD_BYTES)
    if head_end < 0:
        if len(data) >= _HEAD_BYTES or not may_become_plain(data, _METHODS):
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
    if len(length) != 1 or not _is_length(length[0], body_bytes) or not _NOT_PLAIN.isdisjoint(headers):
        raise _NotPlain
    end = head_end + 4 + int(length[0])
    if len(data) < end:
        return None, 0
    return SignedRequest("POST", match[1].decode("ascii"), headers, data[head_end + 4 : end]), end


def _is_length(text: str, most: int) -> bool:
    return text.isdigit() and len(text.lstrip("0")) <= len(str(most)) and int(text.lstrip("0") or 0) <= most


def _bytes(reply: Reply) -> bytes:
    head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\nContent-Length: {len(reply.body)}\r\n"
    if reply.body:
        head += "Content-Type: application/json\r\n"
    if reply.error:
        head += f"x-amzn-ErrorType: {reply.error}\r\n"
    return f"{head}\r\n".encode() + reply.body


_DONE = _bytes(DONE)  # nearly all answers
