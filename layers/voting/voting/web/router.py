"""The HTTP functions' router: it finds the route, and puts the security headers on every response."""

from collections.abc import Callable, Mapping
from logging import INFO
from typing import TYPE_CHECKING, Any

from voting.observability import count, invocation, sampler, tell
from voting.web.errors import HttpError
from voting.web.request import Request
from voting.web.response import NOT_STORED, Response, error_response

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

Route = Callable[[Request], Response]

# All routes of all functions. HTTP API matches paths and methods exactly; everything else reaches the function vote by
# the route `$default`.
ROUTES = {
    "/": ("GET", "HEAD", "POST"),
    "/api/votes": ("POST",),
    "/results": ("GET", "HEAD"),
    "/api/results": ("GET", "HEAD"),
    "/health": ("GET", "HEAD"),
}

# `same-origin`: with `no-referrer` browsers send `Origin: null` when our own form is posted.
SECURITY_HEADERS = {
    "Cache-Control": NOT_STORED,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
SECURITY_HEADERS_OVER_TLS = {**SECURITY_HEADERS, "Strict-Transport-Security": "max-age=31536000"}


class Router:
    """Routes of one HTTP function, by canonical path. HEAD requests go to the GET route.

    We have a router of our own because that of Powertools takes as long to import as all of redis, and as long per vote
    as Redis.
    """

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        self._on_error: dict[type[Exception], HttpError] = {}

    def get(self, path: str) -> Callable[[Route], Route]:
        return self._add("GET", path)

    def post(self, path: str) -> Callable[[Route], Route]:
        return self._add("POST", path)

    def on_error(self, kind: type[Exception], response: HttpError) -> None:
        """Answer with *response* if a route raises *kind*, or a subclass that has no response of its own."""
        self._on_error[kind] = response

    def handle(self, event: Mapping[str, Any], context: "LambdaContext") -> dict[str, Any]:
        """Answer one event of payload format 2.0, also if its route raises."""
        request = Request.of(event)
        invocation.begin(context, api_request_id=request.request_id)
        response = self._respond(request)
        is_head = request.method == "HEAD"  # sent by link checkers, not by voters: no body, and no cookie either
        return {
            "statusCode": response.status,
            "headers": {**(SECURITY_HEADERS_OVER_TLS if request.is_https else SECURITY_HEADERS), **response.headers},
            "cookies": [] if is_head else list(response.cookies),
            "body": "" if is_head else response.body,
            "isBase64Encoded": False,
        }

    def _add(self, method: str, path: str) -> Callable[[Route], Route]:
        def add(route: Route) -> Route:
            self._routes[method, path] = route
            return route

        return add

    def _respond(self, request: Request) -> Response:
        # A POST with surplus slashes counts, since a redirect could lose it. `unrouted` redirects such a GET if the
        # gateway sent it to the wrong function.
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path), unrouted)
        try:
            return route(request)
        except HttpError as error:
            return self._refused(request, error)
        except Exception as error:  # noqa: BLE001 - whatever a route raises, the client gets a response without a stack
            return self._failed(request, error)

    def _refused(self, request: Request, error: HttpError) -> Response:
        if refused := tell("refused", error.code, level=INFO, status=error.status, code=error.code):
            count("RequestsRefused", refused, code=error.code)
        return error_response(request, error)

    def _failed(self, request: Request, error: Exception) -> Response:
        for kind in type(error).__mro__:
            if response := self._on_error.get(kind):
                return self._unavailable(request, error, response)
        if failed := sampler.admit(f"failed: {type(error).__name__}"):
            from voting.observability import logger  # noqa: PLC0415 - most first responses log nothing

            logger.exception("failed", exc_info=error, count=failed)
            count("RequestsFailed", failed)
        message = "Something went wrong on our side. Try again in a moment."
        return error_response(request, HttpError(500, "internal_error", message))

    def _unavailable(self, request: Request, error: Exception, response: HttpError) -> Response:
        # If an error of ours was raised from one of a store, the latter says what happened.
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if failed := tell("unavailable", response.code, code=response.code, error=cause):
            count("RequestsUnavailable", failed)
        return error_response(request, response)


def unrouted(request: Request) -> Response:
    """Answer OPTIONS, and requests that no route of this function takes.

    Raises:
        HttpError: 404 not_found or 405 method_not_allowed.
    """
    methods = ROUTES.get(request.path)
    if methods is None:
        raise HttpError(404, "not_found", "There is nothing at this address.")
    allow = {"Allow": ", ".join((*methods, "OPTIONS"))}
    if request.method == "OPTIONS":
        return Response.empty(204, allow)
    if request.method not in methods:
        raise HttpError(405, "method_not_allowed", "This address does not accept that method.", allow)
    # Another function serves this path. The gateway finds it if the path is spelled exactly.
    return Response.empty(308, {"Location": request.path})
