"""What all HTTP functions have in common: routing, and the manners of every answer."""

from collections.abc import Callable, Mapping
from logging import INFO
from typing import TYPE_CHECKING, Any

from voting.observability import count, invocation, logger, sampler, tell
from voting.web import answer
from voting.web.errors import Refusal
from voting.web.request import Request
from voting.web.response import Response
from voting.web.routes import unrouted

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

Route = Callable[[Request], Response]

# What every answer carries. `same-origin`: with `no-referrer` browsers send `Origin: null` on our own form's posts.
MANNERS = {
    "Cache-Control": answer.NEVER_STORED,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
MANNERS_OVER_TLS = {**MANNERS, "Strict-Transport-Security": "max-age=31536000"}


class Web:
    """The front of one HTTP function. Routes are named by their canonical path; HEAD goes where GET goes.

    A router of our own: that of Powertools takes as long to import as all of redis, and as long per vote as Redis.
    """

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        self._explained: dict[type[Exception], Refusal] = {}

    def get(self, path: str) -> Callable[[Route], Route]:
        return self._register("GET", path)

    def post(self, path: str) -> Callable[[Route], Route]:
        return self._register("POST", path)

    def explain(self, error: type[Exception], refusal: Refusal) -> None:
        """Answer with *refusal* where a route raises *error*; a subclass may have an explanation of its own."""
        self._explained[error] = refusal

    def answer(self, event: Mapping[str, Any], context: "LambdaContext") -> dict[str, Any]:
        """Answer one event of payload format 2.0. A route that raises is answered as well."""
        request = Request.of(event)
        invocation.begin(context, api_request_id=request.request_id)
        response = self._respond(request)
        is_head = request.method == "HEAD"  # a link checker is no voter: no body, and no cookie either
        return {
            "statusCode": response.status,
            "headers": {**(MANNERS_OVER_TLS if request.is_https else MANNERS), **response.headers},
            "cookies": [] if is_head else list(response.cookies),
            "body": "" if is_head else response.body,
            "isBase64Encoded": False,
        }

    def _register(self, method: str, path: str) -> Callable[[Route], Route]:
        def register(route: Route) -> Route:
            self._routes[method, path] = route
            return route

        return register

    def _respond(self, request: Request) -> Response:
        # A POST counts whatever slashes too many it came with, since a redirect could lose it; a GET that the gateway
        # sent to the wrong function is redirected by `unrouted`.
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path), unrouted)
        try:
            return route(request)
        except Refusal as refusal:
            return self._refuse(request, refusal)
        except Exception as error:  # noqa: BLE001 - whatever a route meets, the client gets an answer without a stack
            return self._explain(request, error)

    def _refuse(self, request: Request, refusal: Refusal) -> Response:
        if refused := tell("refused", refusal.code, level=INFO, status=refusal.status, code=refusal.code):
            count("RequestsRefused", refused, code=refusal.code)
        return answer.error(request, refusal)

    def _explain(self, request: Request, error: Exception) -> Response:
        kinds = (kind for kind in type(error).__mro__ if kind in self._explained)
        kind = next(kinds, None)
        if kind is None:
            return self._fail(request, error)
        refusal = self._explained[kind]
        # Where an error of ours came from one of a store, that one says what is the matter.
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if failed := tell("unavailable", refusal.code, code=refusal.code, error=cause):
            count("RequestsUnavailable", failed)
        return answer.error(request, refusal)

    def _fail(self, request: Request, error: Exception) -> Response:
        if failed := sampler.admit(f"failed: {type(error).__name__}"):
            logger.exception("failed", exc_info=error, count=failed)
            count("RequestsFailed", failed)
        message = "Something went wrong on our side. Try again in a moment."
        return answer.error(request, Refusal(500, "internal_error", message))
