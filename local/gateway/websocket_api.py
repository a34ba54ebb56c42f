"""The WebSocket API of API Gateway: one stage, its routes, its connections, and the @connections commands."""

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web
from multidict import CIMultiDict
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from local.awslambda.invocation import Functions, PayloadTooLarge, Throttled, UnknownFunction
from local.gateway.any_http import drop_server, port_of
from local.gateway.event import MalformedAnswer, new_id
from local.gateway.integration import Integration, IntegrationTimeout
from local.gateway.management_api import TOO_LARGE, Management, Reply
from local.gateway.plain_posts import PlainPosts, Turns
from local.gateway.plain_request import PlainReader
from local.gateway.plain_socket import PlainSocket, Protocols
from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_connection import ABNORMAL_ENDING, Connection, Ending, Identity, SlowClient
from local.gateway.websocket_event import (
    Origin,
    connect_event,
    disconnect_event,
    message_event,
    response_of,
    subprotocol_of,
)
from local.hosts import REFUSAL, Hosts
from local.sigv4 import Credentials, SignedRequest
from local.template.resources import WebSocketStage

logger = logging.getLogger("local.websocket")

SELECTION = re.compile(r"\$\{?request\.body\.(?P<path>[A-Za-z0-9_.-]+)\}?\Z")
DEFAULT_ROUTE = "$default"
INTERNAL_ERROR = "Internal server error"
PHRASES = {status.value: status.phrase for status in HTTPStatus}
PARTING_S = 1.0  # for the clients to close, once the gateway stops
SHUTDOWN_S = 2.0  # for $disconnect after that; it is best effort on AWS too


class IntegrationFailed(Exception):
    """The function gave no usable answer; *status* refuses a handshake."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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
        match = SELECTION.match(stage.route_selection)
        if not match:
            raise ValueError(f"cannot select routes by {stage.route_selection!r}: only by $request.body.<path>")
        self._selector = match["path"].split(".")
        self._stage = stage
        self._quotas = quotas or WebSocketQuotas()
        self._integration = Integration(functions, self._quotas.integration_timeout_s)
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

        The application answers posts too, but takes several times as long, and a broadcast is thousands of posts.
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
        accepted = _accept(request)
        if accepted is None:
            return _refuse(request, 426, {"message": "Upgrade Required"})
        return await self._connect(request, accepted, query)

    async def _manage(self, request: web.Request, connection_id: str) -> Reply:
        try:
            body = await request.read() if request.can_read_body else b""
        except web.HTTPRequestEntityTooLarge:
            return TOO_LARGE
        signed = SignedRequest.of(request.method, request.raw_path, request.headers.items(), body)
        return self._management.answer(signed, connection_id)

    async def _connect(self, request: web.Request, response: web.StreamResponse, query: str) -> web.StreamResponse:
        """Invoke $connect, send *response*, and stay until the connection is over."""
        identity = Identity(
            connection_id=new_id(),
            source_ip=request.remote or "",
            user_agent=request.headers.get("User-Agent", ""),
            connected_ms=int(time.time() * 1000),
        )
        origin = Origin(self._stage.api_id, self._stage.stage, request.headers.get("Host", ""))
        if function := self._stage.routes.get("$connect"):
            event = connect_event(origin, identity, request.raw_headers, query, port_of(request))
            try:
                answer = await self._ask(function, event)
            except IntegrationFailed as error:
                return _refuse(request, error.status, _fault(str(error), event))
            status = answer["statusCode"]
            if not 200 <= status <= 299:
                return _refuse(request, status, _fault(PHRASES.get(status, "Refused"), event))
            if protocol := subprotocol_of(answer):
                response.headers["Sec-WebSocket-Protocol"] = protocol
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy: code that runs here has a task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        ending = await self._stay(request, response, origin, identity)
        await self._disconnect(origin, identity, ending)
        return response

    async def _stay(
        self, request: web.Request, response: web.StreamResponse, origin: Origin, identity: Identity
    ) -> Ending:
        """Shake hands and serve the connection until it ends."""
        transport = request.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():  # the client left while $connect ran
            return ABNORMAL_ENDING

        async def handle(connection: Connection, message: str | bytes) -> None:
            await self._handle(origin, connection, message)

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

    async def _handle(self, origin: Origin, connection: Connection, message: str | bytes) -> None:
        """Route one message. The client hears of failures only, since no route has a response."""
        route_key = self._route(message)
        event = message_event(origin, connection.identity, route_key, message)
        function = self._stage.routes.get(route_key)
        if function is None:
            _report(connection, _fault("Forbidden", event))
            return
        try:
            await self._ask(function, event)
        except IntegrationFailed as error:
            _report(connection, _fault(str(error), event))

    def _route(self, message: str | bytes) -> str:
        if isinstance(message, bytes):
            return DEFAULT_ROUTE
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):  # not JSON, or nested too deeply
            return DEFAULT_ROUTE
        for name in self._selector:
            value = value.get(name) if isinstance(value, dict) else None
        known = isinstance(value, str) and not value.startswith("$") and value in self._stage.routes
        return str(value) if known else DEFAULT_ROUTE

    async def _disconnect(self, origin: Origin, identity: Identity, ending: Ending) -> None:
        function = self._stage.routes.get("$disconnect")
        if function is None:
            return
        try:
            await self._ask(function, disconnect_event(origin, identity, ending))
        except IntegrationFailed as error:
            logger.warning("$disconnect of %s was not handled: %s", identity.connection_id, error)

    async def _ask(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        """Invoke *function*; return its response, which has a statusCode.

        Raises:
            IntegrationFailed: it gave no such response.
        """
        try:
            answer = await self._integration.ask(function, event)
        except IntegrationTimeout as error:
            raise IntegrationFailed(504, "Endpoint request timed out") from error
        except (Throttled, UnknownFunction, PayloadTooLarge) as error:  # Lambda did not accept the invocation
            logger.warning("%s was not invoked: %s", function, type(error).__name__)
            raise IntegrationFailed(500, INTERNAL_ERROR) from error
        if answer.error:
            raise IntegrationFailed(502, INTERNAL_ERROR)
        try:
            return response_of(answer.payload)
        except MalformedAnswer as error:
            logger.warning("%s returned a malformed response: %s", function, error)
            raise IntegrationFailed(502, INTERNAL_ERROR) from error

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


def _accept(request: web.Request) -> web.StreamResponse | None:
    """Return the response that accepts an opening handshake (RFC 6455, section 4.2); None if it is not a valid one."""
    headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    response = ServerProtocol().accept(Request(request.path, headers, request.method))
    if response.status_code != 101:
        return None
    return web.StreamResponse(status=101, headers=CIMultiDict(response.headers.raw_items()))


def _fault(message: str, event: dict[str, Any]) -> dict[str, str]:
    context = event["requestContext"]
    return {"message": message, "connectionId": context["connectionId"], "requestId": context["requestId"]}


def _report(connection: Connection, fault: dict[str, str]) -> None:
    if connection.is_open:
        with contextlib.suppress(SlowClient):  # it is over, and $disconnect reports that
            connection.send(json.dumps(fault).encode())


def _refuse(request: web.Request, status: int, fault: dict[str, str]) -> web.Response:
    path = request.raw_path.partition("?")[0]
    logger.log(logging.WARNING if status >= 500 else logging.INFO, "%s %s %d", request.method, path, status)
    body = json.dumps(fault).encode()
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"} if status == 426 else None
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _response_to(reply: Reply) -> web.Response:
    kind = {"x-amzn-ErrorType": reply.error} if reply.error else None
    if not reply.body:
        return web.Response(status=reply.status, headers=kind)
    return web.Response(status=reply.status, body=reply.body, content_type="application/json", headers=kind)
