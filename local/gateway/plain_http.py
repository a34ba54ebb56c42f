"""The sockets of the HTTP API's port, as long as they carry plain requests: those that nearly all clients send.

They are read and answered here, at a fraction of what a whole HTTP server costs; a socket that brings anything else is
handed over to aiohttp with that request, and stays there.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from local.gateway.any_http import hand_over, may_become_plain
from local.gateway.http_event import Caller, Response

_log = logging.getLogger("local.http")

# RFC 9112, sections 3 and 5, less than it allows: no fragment, no obsolete folding, ASCII only.
_HEAD = re.compile(
    rb"(GET|POST) (/[!\"$-~]*) HTTP/1\.1((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*)+)",
)
_HEAD_BYTES = 16 * 1024
_BODY_BYTES = 64 * 1024
_AHEAD_BYTES = 128 * 1024  # of requests that wait for their turn; any one of them fits in
# What changes how a request is read or answered; HTTP has one implementation of that here, and it is not this one.
_NOT_PLAIN = frozenset({b"expect", b"transfer-encoding", b"upgrade"})
_BODILESS = frozenset({204, 304})
_METHODS = (b"GET /", b"POST /")


class _NotPlain(Exception):
    """This request is none of those that are answered here."""


class HttpLine(asyncio.Protocol):
    """One socket: answers plain requests one after the other, and makes way for another protocol at the first other."""

    def __init__(
        self,
        answer: Callable[[Caller], Awaitable[Response]],
        lines: set["HttpLine"],
        otherwise: Callable[[], asyncio.Protocol],
    ) -> None:
        """Have requests answered by *answer*; be among *lines* while open and not handed over."""
        self._answer = answer
        self._lines = lines
        self._otherwise = otherwise
        self._unread = b""
        self._answering: asyncio.Task[None] | None = None
        self._closing = False
        self._is_choked = False  # by answers that the client does not read
        self._client_has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        self._transport = transport
        self._port = int(transport.get_extra_info("sockname")[1])
        self._source_ip = str(transport.get_extra_info("peername")[0])
        self._lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._lines.discard(self)
        self._unread = b""  # the function under way goes on, as on AWS; those that wait for their turn end here

    def close(self) -> "asyncio.Task[None] | None":
        """Hang up: at once where nothing is being answered, else after the answer, whose task is returned."""
        self._closing = True
        if self._answering is None:
            self._transport.close()
        return self._answering

    def data_received(self, data: bytes) -> None:
        self._unread = self._unread + data if self._unread else data
        if self._answering is None and not self._is_choked:
            self._read_next()
        elif len(self._unread) > _AHEAD_BYTES:  # the client is ahead of us: its turn comes
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Answer what came before; the client may have closed its half only (RFC 9112, section 9.6)."""
        self._client_has_ended = True
        if self._answering is None and not self._is_choked:
            self._read_next()
        return True

    def pause_writing(self) -> None:
        self._is_choked = True

    def resume_writing(self) -> None:
        self._is_choked = False
        self._go_on()

    def _read_next(self) -> None:
        try:
            caller, end = self._read()
        except _NotPlain:
            self._hand_over()
            return
        if caller is not None:
            self._unread = self._unread[end:]
            self._answering = asyncio.get_running_loop().create_task(self._serve(caller))
        elif self._client_has_ended:
            self._finish()
            return
        if len(self._unread) <= _AHEAD_BYTES:
            self._transport.resume_reading()

    async def _serve(self, caller: Caller) -> None:
        try:
            response = await self._answer(caller)
        except Exception:  # noqa: BLE001 - a mistake of ours, which must not leave the client waiting
            _log.exception("a request was not answered")
            response = Response(500, [("content-type", "application/json")], b'{"message":"Internal Server Error"}')
        self._transport.write(_bytes(response))
        self._answering = None
        if self._closing:
            self._transport.close()
        self._go_on()

    def _go_on(self) -> None:
        """Turn to the request that came in the meantime, unless the client has gone or reads no answers."""
        if self._answering is not None or self._is_choked or self._transport.is_closing():
            return
        if self._unread or self._client_has_ended:
            self._read_next()

    def _read(self) -> tuple[Caller | None, int]:
        """Read the next request, and where it ends; None while it is incomplete.

        Raises:
            _NotPlain: it is not plain, or longer than one may be.
        """
        data = self._unread
        head_end = data.find(b"\r\n\r\n", 0, _HEAD_BYTES)
        if head_end < 0:
            if len(data) >= _HEAD_BYTES or not may_become_plain(data, _METHODS):
                raise _NotPlain
            return None, 0
        match = _HEAD.fullmatch(data, 0, head_end)
        if match is None:
            raise _NotPlain
        headers = []
        length = b"0"
        lengths = hosts = 0
        for line in match[3].split(b"\r\n")[1:]:
            raw_name, _, value = line.partition(b":")
            name, value = raw_name.lower(), value.strip(b" \t")
            if name == b"content-length":
                length, lengths = value, lengths + 1
            elif name in _NOT_PLAIN or (name == b"connection" and value.lower() != b"keep-alive"):
                raise _NotPlain
            hosts += name == b"host"
            headers.append((raw_name, value))
        if hosts != 1 or lengths > 1 or not length.isdigit() or len(length) > 9 or int(length) > _BODY_BYTES:
            raise _NotPlain
        end = head_end + 4 + int(length)
        if len(data) < end:
            return None, 0
        return Caller(
            method=match[1].decode(),
            target=match[2].decode(),
            protocol="HTTP/1.1",
            headers=headers,
            body=data[head_end + 4 : end],
            source_ip=self._source_ip,
            port=self._port,
        ), end

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


def _bytes(response: Response) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    body = b"" if response.status in _BODILESS else response.body
    if response.status not in _BODILESS:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape") + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a function may answer any number
        return ""
