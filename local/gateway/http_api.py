"""The HTTP API of API Gateway, for one stage `$default` with Lambda proxy integrations."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import replace
from urllib.parse import unquote

from aiohttp import web

from local.awslambda.invocation import Functions, PayloadTooLarge, Throttled, UnknownFunction
from local.gateway.any_http import drop_server, port_of
from local.gateway.event import MalformedAnswer, new_id
from local.gateway.http_event import Caller, Response, event_of, response_of
from local.gateway.integration import Integration, IntegrationTimeout
from local.gateway.plain_http import PlainHttp
from local.gateway.plain_socket import PlainSocket, Protocols
from local.gateway.quotas import HttpQuotas
from local.headers import by_name
from local.hosts import REFUSAL, Hosts
from local.template.resources import HttpRoute

logger = logging.getLogger("local.http")

DEFAULT_ROUTE = "$default"
HANG_UP_S = 2.0  # for the answers under way when the gateway stops


class Refused(Exception):
    """The gateway answers the request itself, without a function."""

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
        self._plain_sockets: set[PlainSocket] = set()
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
        """Whether a client waits for an answer."""
        return self._answering > 0

    def application(self) -> web.Application:
        """Return the application that serves this API; it logs its 4xx and 5xx, but not every request."""
        application = web.Application(client_max_size=self._quotas.body_bytes)
        application.router.add_route("*", "/{path:.*}", self._serve)
        application.on_response_prepare.append(drop_server)
        application.on_shutdown.append(self._hang_up)
        return application

    def plain_http(self, successor: Protocols) -> PlainHttp:
        """Return the protocol of a new socket; *successor*, the application's own, takes over requests that need it."""
        return PlainHttp(self.answer, self._plain_sockets, successor)

    async def answer(self, caller: Caller) -> Response:
        """Answer a request that has been read."""
        id_ = new_id()
        return await self._settle(caller.method, caller.target, id_, self._answer(caller, id_))

    async def _serve(self, request: web.Request) -> web.Response:
        id_ = new_id()
        response = await self._settle(request.method, request.raw_path, id_, self._read_and_answer(request, id_))
        answer = web.Response(status=response.status, body=response.body or None)
        headers = answer.headers
        for name, value in response.headers:
            headers.add(name, value)
        return answer

    async def _settle(self, method: str, target: str, id_: str, answering: Awaitable[Response]) -> Response:
        """Turn a refusal into a response, log failures, and add the id of the request."""
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
            headers=by_name(_decode(request.raw_headers)),
            body=b"",
            source_ip=request.remote or "",
            port=port_of(request),
        )
        self._route(caller)  # refused before its body is read
        return await self._answer(replace(caller, body=await _read(request)), id_)

    async def _answer(self, caller: Caller, id_: str) -> Response:
        path, route_key, function = self._route(caller)
        return await self._ask(function, event_of(caller, path, route_key, self._api_id, id_))

    async def _hang_up(self, _application: web.Application) -> None:
        """Close the plain sockets, after the answers under way; aiohttp does the same with its own."""
        answering = {task for plain in tuple(self._plain_sockets) if (task := plain.close()) is not None}
        if answering:
            await asyncio.wait(answering, timeout=HANG_UP_S)

    def _route(self, caller: Caller) -> tuple[str, str, str]:
        """Return the decoded path, the key of its route, and the function behind that route.

        Raises:
            Refused: there is no route, the head is too long, or the request is for another host.
        """
        if not all(self._hosts.admits(host) for host in caller.hosts):
            raise Refused(421, REFUSAL)
        if _header_bytes(caller) > self._quotas.header_bytes:
            raise Refused(431, "Request Header Fields Too Large")
        # As on AWS: the path is decoded, and then cut at the first question mark.
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
        except PayloadTooLarge as error:  # Lambda's limit is lower than the gateway's, and Base64 makes a body longer
            raise Refused(413, "Request Entity Too Large") from error
        except UnknownFunction as error:
            logger.warning("a route leads to %s, which is not in the template", function)
            raise Refused(500, "Internal Server Error") from error
        except MalformedAnswer as error:
            logger.warning("%s returned a malformed response: %s", function, error)
            raise Refused(500, "Internal Server Error") from error


def _header_bytes(caller: Caller) -> int:
    """Return the length of the request line and the headers with their separators."""
    line = len(caller.method) + len(caller.target) + len(" HTTP/1.1\r\n") + 1
    return line + sum(len(name) + len(value) + 4 for name, values in caller.headers.items() for value in values)


def _decode(raw_headers: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Decode headers as Latin-1, which takes any byte: a header that is not ASCII must not cost the client a 500."""
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw_headers)


async def _read(request: web.Request) -> bytes:
    if not request.can_read_body:
        return b""
    if (request.content_length or 0) > request.client_max_size:  # known before a byte of it is read
        raise Refused(413, "Request Entity Too Large")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(413, "Request Entity Too Large") from error
