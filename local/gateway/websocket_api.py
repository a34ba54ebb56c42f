"""The WebSocket API of API Gateway: one stage, its connections, and the @connections commands."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web
from websockets.frames import CloseCode

from local.awslambda.invocation import Functions
from local.gateway.any_http import drop_server, port_of
from local.gateway.event import new_id
from local.gateway.handshake import UPGRADE_REQUIRED, accept
from local.gateway.management_api import TOO_LARGE, Management, Reply
from local.gateway.plain_posts import PlainPosts
from local.gateway.plain_request import PlainReader
from local.gateway.plain_socket import PlainSocket, Protocols
from local.gateway.quotas import WebSocketQuotas
from local.gateway.turns import Turns
from local.gateway.websocket_connection import ABNORMAL_ENDING, Connection, Ending, Identity, SlowClient
from local.gateway.websocket_event import Origin
from local.gateway.websocket_routes import Fault, HandshakeRefused, WebSocketRoutes
from local.hosts import REFUSAL, Hosts
from local.sigv4 import Credentials, SignedRequest
from local.template.resources import WebSocketStage

logger = logging.getLogger("local.websocket")

PARTING_S = 1.0  # for the clients to close, once the gateway stops
SHUTDOWN_S = 2.0  # for $disconnect after that; it is best effort on AWS too


class WebSocketApi:
    """Opens connections through $connect, routes their messages, and reports their end through $disconnect."""

    def __init__(
        self,
        stage: WebSocketStage,
        functions: Functions,
        keyring: Sequence[Credentials],
        quotas: WebSocketQuotas | None = None,
        is_urgent: Callable[[], bool] = lambda: False,
        hosts: Hosts | None = None,
    ) -> None:
        """Serve *stage*. Posts to its connections are signed with credentials of *keyring*.

        While *is_urgent* is true, posts give way to other work of the event loop.

        Raises:
            ValueError: the route selection expression is not `$request.body.<path>`.
        """
        self._stage = stage
        self._quotas = quotas or WebSocketQuotas()
        self._routes = WebSocketRoutes(stage, functions, self._quotas.integration_timeout_s)
        self._hosts = hosts or Hosts()
        self._connections: dict[str, Connection] = {}
        self._serving: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._plain_sockets: set[PlainSocket] = set()
        self._reader = PlainReader("POST", body_bytes=self._quotas.message_bytes)
        self._turns = Turns(is_urgent)
        self._management = Management(stage.stage, self._connections, keyring, self._quotas)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def application(self) -> web.Application:
        """Return what serves this API: handshakes at `/{stage}`, commands at `/{stage}/@connections/{id}`."""
        application = web.Application(
            client_max_size=self._quotas.message_bytes + 1,  # one more, so that Management refuses
        )
        application.router.add_route("*", "/{path:.*}", self._serve)
        application.on_response_prepare.append(drop_server)
        application.on_shutdown.append(self._shut_down)
        return application

    def plain_posts(self, successor: Protocols) -> PlainPosts:
        """Return what serves a new socket until it brings a request that only *successor*, the application's, reads.

        The application answers posts too, but takes nearly twice as long, and a broadcast is thousands of posts.
        """
        return PlainPosts(self._management, self._reader, self._plain_sockets, self._turns, successor)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        connection_id = self._management.connection_id(path)
        if connection_id is not None:
            return _response_to(await self._manage(request, connection_id))
        if not self._hosts.admits(request.headers.get("Host", "localhost")):  # HTTP/1.0 needs none
            return _refuse(request, 421, {"message": REFUSAL})
        if path.rstrip("/") != f"/{self._stage.stage}":
            return _refuse(request, 403, {"message": "Forbidden"})
        accepted = accept(request)
        if accepted is None:
            return _refuse(request, 426, {"message": "Upgrade Required"}, UPGRADE_REQUIRED)
        return await self._connect(request, accepted, query)

    async def _manage(self, request: web.Request, connection_id: str) -> Reply:
        try:
            body = await request.read() if request.can_read_body else b""
        except web.HTTPRequestEntityTooLarge:
            return TOO_LARGE
        signed = SignedRequest.of(request.method, request.raw_path, request.headers.items(), body)
        return self._management.answer(signed, connection_id)

    async def _connect(self, request: web.Request, response: web.StreamResponse, query: str) -> web.StreamResponse:
        """Ask $connect, send *response*, and stay until the connection is over."""
        identity = Identity(
            connection_id=new_id(),
            source_ip=request.remote or "",
            user_agent=request.headers.get("User-Agent", ""),
            connected_ms=int(time.time() * 1000),
        )
        origin = Origin(self._stage.api_id, self._stage.stage, request.headers.get("Host", ""))
        try:
            protocol = await self._routes.connect(origin, identity, request.raw_headers, query, port_of(request))
        except HandshakeRefused as refused:
            return _refuse(request, refused.status, refused.fault)
        if protocol:
            response.headers["Sec-WebSocket-Protocol"] = protocol
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy: code that runs here has a task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        ending = await self._stay(request, response, origin, identity)
        await self._routes.disconnect(origin, identity, ending)
        return response

    async def _stay(
        self, request: web.Request, response: web.StreamResponse, origin: Origin, identity: Identity
    ) -> Ending:
        """Shake hands and serve the connection until it ends."""
        transport = request.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():  # the client left while $connect ran
            return ABNORMAL_ENDING

        async def handle(connection: Connection, message: str | bytes) -> None:
            fault = await self._routes.message(origin, identity, message)
            if fault is not None:
                _report(connection, fault)

        connection = Connection(identity, transport, self._quotas, handle)
        self._connections[identity.connection_id] = connection
        try:
            await response.prepare(request)
            request.protocol.set_parser(connection)  # type: ignore[arg-type]  # it asks for no more than the two feeds
            if transport.is_closing():
                connection.feed_eof()  # closed before aiohttp could report it
            elif self._closing:
                connection.hang_up(CloseCode.GOING_AWAY, "Going away")
            return await connection.ended()
        except ConnectionError:
            return ABNORMAL_ENDING
        finally:
            del self._connections[identity.connection_id]
            connection.feed_eof()  # its timers stop, also where it never came to open or we are cancelled

    async def _shut_down(self, _application: web.Application) -> None:
        """Close every connection with 1001, and give $disconnect a moment."""
        self._closing = True
        for plain in tuple(self._plain_sockets):
            plain.close()
        for connection in list(self._connections.values()):
            connection.hang_up(CloseCode.GOING_AWAY, "Going away")
        await self._serving_ends(PARTING_S)
        for connection in list(self._connections.values()):
            connection.abort()  # a client that did not close in time
        await self._serving_ends(SHUTDOWN_S)

    async def _serving_ends(self, timeout_s: float) -> None:
        if self._serving:
            await asyncio.wait(self._serving, timeout=timeout_s)


def _report(connection: Connection, fault: Fault) -> None:
    if connection.is_open:
        with contextlib.suppress(SlowClient):  # it is over, and $disconnect reports that
            connection.send(json.dumps(fault).encode())


def _refuse(request: web.Request, status: int, fault: Fault, headers: Mapping[str, str] | None = None) -> web.Response:
    path = request.raw_path.partition("?")[0]
    logger.log(logging.WARNING if status >= 500 else logging.INFO, "%s %s %d", request.method, path, status)
    body = json.dumps(fault).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _response_to(reply: Reply) -> web.Response:
    kind = {"x-amzn-ErrorType": reply.error} if reply.error else None
    if not reply.body:
        return web.Response(status=reply.status, headers=kind)
    return web.Response(status=reply.status, body=reply.body, content_type="application/json", headers=kind)
