"""Sockets for any HTTP request: aiohttp's handler, with parts of RFC 9112 that it leaves out."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from local.gateway.quotas import SERVER_OPTIONS

_log = logging.getLogger("local.http")

# The first byte of a TLS record with a ClientHello (RFC 8446, section 5.1). No HTTP method begins with it.
_TLS = 0x16
_ABSOLUTE = re.compile(r"(?:http|ws)s?://([^/?#]+)", re.IGNORECASE)
_CLIENTS_FAULT = (HttpProcessingError, web.RequestPayloadError, ConnectionResetError)


class AnyHttp(web.RequestHandler):
    """One socket of an application, which also answers malformed requests and clients that closed their half."""

    def __init__(self, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None, **SERVER_OPTIONS)  # type: ignore[arg-type] # None turns that log off
        self._port = 0
        self._has_begun = False
        self._client_has_ended = False
        self._body: StreamReader | None = None  # of the last request that was read
        self._has_answered = False  # that request
        self._make_request = self._request_factory
        self._request_factory = self._request_of

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._port = int(transport.get_extra_info("sockname")[1])
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._has_begun and data:
            self._has_begun = True
            if data[0] == _TLS:
                _log.warning("a client on port %d speaks TLS: use http:// or ws:// there", self._port)
                self.force_close()
                return
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):  # the parser has failed
            self._break_off("the rest of the body is malformed")

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's: true keeps our half of the socket open
        """Answer what came before; the client may have closed its half only (RFC 9112, section 9.6)."""
        is_idle = not self._messages and (self._waiter is not None or self._body is None)
        if is_idle or self._payload_parser is not None:  # an open WebSocket ends with its client's half
            return False
        self._break_off("the client stopped in the middle of the body")
        self._client_has_ended = True
        if self._has_answered and not self._messages:
            self.close()  # once that answer is written
        return True

    def set_parser(self, *arguments: Any) -> None:
        super().set_parser(*arguments)
        if self._client_has_ended and self.transport is not None:  # it ended between its handshake and our answer
            self.transport.close()

    async def finish_response(self, *arguments: Any) -> tuple[web.StreamResponse, bool]:
        self._has_answered = True
        if self._client_has_ended and not self._messages:
            self.close()  # once this answer is written
        return await super().finish_response(*arguments)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, _CLIENTS_FAULT) or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        self.log_exception(exc_info=exc)
        response = web.json_response({"message": "Bad Request"}, status=400)
        response.force_close()
        return response

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """Log our own faults with their stack, and a client's by its type only: its text is not to be trusted."""
        error = options.get("exc_info")
        if isinstance(error, _CLIENTS_FAULT):
            _log.info("a malformed or broken off request on port %d (%s)", self._port, type(error).__name__)
        else:
            super().log_exception(*arguments, **options)

    def _break_off(self, reason: str) -> None:
        """Fail every body that is still being read: its rest will not come."""
        for body in (self._body, *(payload for _, payload in self._messages)):
            if body is not None and not body.is_eof():
                body.set_exception(web.RequestPayloadError(reason))

    def _request_of(self, message: RawRequestMessage, payload: StreamReader, *others: Any) -> web.BaseRequest:
        assert self._make_request is not None  # noqa: S101 - for mypy: a server always has one
        self._body, self._has_answered = payload, False
        return self._make_request(_in_origin_form(message), payload, *others)


def hand_over(transport: asyncio.Transport, unread: bytes, successor: asyncio.Protocol, *, has_ended: bool) -> None:
    """Let *successor* serve the socket, beginning with *unread*; *has_ended* says that the client closed its half."""
    transport.set_protocol(successor)
    successor.connection_made(transport)
    successor.data_received(unread)
    if has_ended and not successor.eof_received():
        transport.close()


def port_of(request: web.Request) -> int:
    """Return the port of ours that *request* came to; 0 once its client has gone."""
    address = request.transport.get_extra_info("sockname") if request.transport else None
    return int(address[1]) if address else 0


async def drop_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Remove the header Server, which API Gateway does not send."""
    response.headers.popall("Server", None)


def any_http(server: web.Server) -> Callable[[], AnyHttp]:
    """Return the factory of the protocol of each connection to *server*."""
    return lambda: AnyHttp(server)


def _in_origin_form(message: RawRequestMessage) -> RawRequestMessage:
    """Return *message* with the path for a target, and the target's host for its own (RFC 9112, section 3.2.2)."""
    match = _ABSOLUTE.match(message.path)
    if match is None:
        return message
    host = match[1].rpartition("@")[2]
    target = message.path[match.end() :]
    if not target.startswith("/"):
        target = f"/{target}"
    path, _, query = target.partition("?")
    headers = CIMultiDict(message.headers)
    headers["Host"] = host
    raw = ((name, host.encode() if name.lower() == b"host" else value) for name, value in message.raw_headers)
    return message._replace(
        path=target,
        url=URL.build(path=path, query_string=query, encoded=True),
        headers=CIMultiDictProxy(headers),
        raw_headers=tuple(raw),
    )
