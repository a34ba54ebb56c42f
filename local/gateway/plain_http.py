"""The HTTP API's sockets while they carry plain requests: aiohttp takes nearly twice as long for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from local.gateway.http_event import Caller, Response
from local.gateway.plain_request import PlainReader, PlainRequest
from local.gateway.plain_socket import PlainSocket, Protocols

_log = logging.getLogger("local.http")

_READER = PlainReader("GET", "POST", body_bytes=64 * 1024)
_AHEAD_BYTES = 128 * 1024
_BODILESS = frozenset({204, 304})
_FAILED = Response(500, [("content-type", "application/json")], b'{"message":"Internal Server Error"}')


class PlainHttp(PlainSocket):
    """One socket, whose requests are answered one after the other."""

    def __init__(
        self, answer: Callable[[Caller], Awaitable[Response]], open_sockets: set[PlainSocket], successor: Protocols
    ) -> None:
        """Answer requests by *answer*; the rest is as for `PlainSocket`."""
        super().__init__(_READER, open_sockets, successor, _AHEAD_BYTES)
        self._answer = answer
        self._answering: asyncio.Task[None] | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._port = int(transport.get_extra_info("sockname")[1])
        self._source_ip = str(transport.get_extra_info("peername")[0])

    def close(self) -> "asyncio.Task[None] | None":
        self._closing = True
        if self._answering is None:
            return super().close()
        return self._answering

    def _wake(self) -> None:
        if self._answering is not None:
            return
        request = self._next()
        if request is not None:
            self._advance(request)
            self._answering = asyncio.get_running_loop().create_task(self._serve(self._caller(request)))

    async def _serve(self, caller: Caller) -> None:
        """Answer one request. A client that leaves does not stop its function, as on AWS."""
        try:
            response = await self._answer(caller)
        except Exception:  # noqa: BLE001 - a fault of ours, which must not leave the client waiting
            _log.exception("a request was not answered")
            response = _FAILED
        self._transport.write(_encode(response))
        self._answering = None
        if self._closing:
            self._transport.close()
        if self._has_more():
            self._wake()

    def _caller(self, request: PlainRequest) -> Caller:
        return Caller(
            method=request.method,
            target=request.target,
            protocol="HTTP/1.1",
            headers=request.headers,
            body=request.body,
            source_ip=self._source_ip,
            port=self._port,
        )


def _encode(response: Response) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    body = b"" if response.status in _BODILESS else response.body
    if response.status not in _BODILESS:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape") + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a function may answer with any number
        return ""
