"""The HTTP API of API Gateway, for one stage `$default` with Lambda proxy integrations."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from urllib.parse import unquote

from aiohttp import web

from local.awslambda.invocation import Functions, PayloadTooLarge, Throttled, UnknownFunction
from local.gateway.http_event import Caller, MalformedAnswer, Response, event_of, request_id, response_of
from local.gateway.integration import Integration, IntegrationTimeout
from local.gateway.plain_http import HttpLine
from local.gateway.quotas import HttpQuotas
from local.hosts import REFUSAL, Hosts
from local.template.resources import HttpRoute

logger = logging.getLogger("local.http")

DEFAULT_ROUTE = "$default"
HANG_UP_S = 2.0  # for the answers under way when the gateway goes away


class Refused(Exception):
    """The gateway answers itself, and no function is asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HttpApi:
    """Turns requests into events of payload format 2.0, and functions' answers into responses."""

    def __init__(
        self,
        api_id: str,
        routes: Iterable[HttpRoute],
        functions: Functions,
        quotas: HttpQuotas | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._api_id = api_id
        self._quotas = quotas or HttpQuotas()
        self._hosts = hosts or Hosts()
        self._integration = Integration(functions, self._quotas.integration_timeout_s)
        self._lines: set[HttpLine] = set()
        self._answering = 0
        self._routes: dict[tuple[str, str], str] = {}
        self._default: str | None = None
        for route in routes:
            if route.path == DEFAULT_ROUTE:
                self._default = route.function
            else:
                self._routes[route.method.upper(), route.path] = route.function

    @property
    def is_answering(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._answering > 0

    def application(self) -> web.Application:
        """Return what serves this API; its 4xx and 5xx are logged, access is not."""
        application = web.Application(client_max_size=self._quotas.body_bytes)
        application.router.add_route("*", "/{path:.*}", self._serve)
        application.on_response_prepare.append(_drop_server)
        application.on_shutdown.append(self._hang_up)
        return application

    def line(self, otherwise: Callable[[], asyncio.Protocol]) -> HttpLine:
        """Return what serves one connection until it brings what only *otherwise*, of the application, can read."""
        return HttpLine(self.answer, self._lines, otherwise)

    async def answer(self, caller: Caller) -> Response:
        """Answer a request, whoever read it."""
        id_ = request_id()
        return await self._settle(caller.method, caller.target, id_, self._answer(caller, id_))

    async def _serve(self, request: web.Request) -> web.Response:
        id_ = request_id()
        response = await self._settle(request.method, request.raw_path, id_, self._read_and_answer(request, id_))
        answer = web.Response(status=response.status, body=response.body or None)
        headers = answer.headers
        for name, value in response.headers:
            headers.add(name, value)
        return answer

    async def _settle(self, method: str, target: str, id_: str, answering: Awaitable[Response]) -> Response:
        """Say in a response what was refused, log what failed, and put the request's id on it."""
        started_s = time.monotonic()
        self._answering += 1
        try:
            response = await answering
        except Refused as refused:
            body = json.dumps({"message": refused.message}, separators=(",", ":")).encode()
            response = Response(refused.status, [("content-type", "application/json")], body)
        finally:
            self._answering -= 1
        if response.status >= 400:
            level = logging.WARNING if response.status >= 500 else logging.INFO
            path = target.partition("?")[0]
            elapsed_ms = (time.monotonic() - started_s) * 1000
            logger.log(level, "%s %s %d %.0f ms", method, path, response.status, elapsed_ms)
        return Response(response.status, [*response.headers, ("apigw-requestid", id_)], response.body)

    async def _read_and_answer(self, request: web.Request, id_: str) -> Response:
        caller = Caller(
            method=request.method,
            target=request.raw_path,
            protocol=f"HTTP/{request.version.major}.{request.version.minor}",
            headers=request.raw_headers,
            body=b"",
            source_ip=request.remote or "",
            port=_port(request),
        )
        self._route(caller)  # refused before a byte of its body is read
        return await self._answer(replace(caller, body=await _read(request)), id_)

    async def _answer(self, caller: Caller, id_: str) -> Response:
        path, route_key, function = self._route(caller)
        return await self._ask(function, event_of(caller, path, route_key, self._api_id, id_))

    async def _hang_up(self, _application: web.Application) -> None:
        """Close the connections that are no server's; wait for those that are being answered, as aiohttp does."""
        answering = {task for line in tuple(self._lines) if (task := line.close()) is not None}
        if answering:
            await asyncio.wait(answering, timeout=HANG_UP_S)

    def _route(self, caller: Caller) -> tuple[str, str, str]:
        """The decoded path, the key of its route, and the function that the route leads to.

        Raises:
            Refused: there is none, its head is too long, or it is for another host.
        """
        if not all(self._hosts.admits(host) for host in caller.hosts):
            raise Refused(421, REFUSAL)
        if _header_bytes(caller) > self._quotas.header_bytes:
            raise Refused(431, "Request Header Fields Too Large")
        # As AWS does it: the path is decoded, and what then looks like a query is cut off.
        path = unquote(caller.target.partition("?")[0]).partition("?")[0]
        if function := self._routes.get((caller.method, path)):
            return path, f"{caller.method} {path}", function
        if function := self._routes.get(("ANY", path)):
            return path, f"ANY {path}", function
        if self._default:
            return path, DEFAULT_ROUTE, self._default
        raise Refused(404, "Not Found")

    async def _ask(self, function: str, event: dict[str, object]) -> Response:
        try:
            answer = await self._integration.ask(function, event)
            if answer.error:
                raise Refused(500, "Internal Server Error")
            return response_of(answer.payload)
        except (IntegrationTimeout, Throttled) as error:
            logger.warning("%s: %s", function, type(error).__name__)
            raise Refused(503, "Service Unavailable") from error
        except PayloadTooLarge as error:  # Lambda takes less than the gateway, and Base64 makes it more
            raise Refused(413, "Request Entity Too Large") from error
        except UnknownFunction as error:
            logger.warning("a route leads to %s, which the template does not have", function)
            raise Refused(500, "Internal Server Error") from error
        except MalformedAnswer as error:
            logger.warning("%s returned a malformed response: %s", function, error)
            raise Refused(500, "Internal Server Error") from error


def _header_bytes(caller: Caller) -> int:
    """Count the request line and the headers with their separators."""
    line = len(caller.method) + len(caller.target) + len(" HTTP/1.1\r\n") + 1
    return line + sum(len(name) + len(value) + 4 for name, value in caller.headers)


async def _read(request: web.Request) -> bytes:
    if not request.can_read_body:
        return b""
    if (request.content_length or 0) > request.client_max_size:  # known before a byte of it is read
        raise Refused(413, "Request Entity Too Large")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(413, "Request Entity Too Large") from error


def _port(request: web.Request) -> int:
    address = request.transport.get_extra_info("sockname") if request.transport else None
    return int(address[1]) if address else 0


async def _drop_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Name no server: API Gateway does not."""
    response.headers.popall("Server", None)
