"""What all HTTP functions have in common: routing by Powertools, and the manners of every answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler.api_gateway import APIGatewayHttpResolver, Response

from voting import answer
from voting.observability import MetricUnit, logger, metrics, publish
from voting.refusal import Refusal
from voting.request import Request
from voting.routes import unrouted
from voting.sampling import Sampler

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# What every answer carries. `same-origin`: with `no-referrer` browsers send `Origin: null` on our own form's posts.
MANNERS = {
    "Cache-Control": answer.NEVER_STORED,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
HSTS = {"Strict-Transport-Security": "max-age=31536000"}


class Web:
    """The front of one HTTP function.

    Routes are given to `routes` as to any Powertools resolver, for canonical paths and without HEAD.
    """

    def __init__(self) -> None:
        self._refusals = Sampler()
        self.routes = APIGatewayHttpResolver()
        self.routes.exception_handler(Exception)(self._fail)
        self.routes.exception_handler(Refusal)(self._refuse)
        self.routes.not_found(lambda _: unrouted(self.request))

    def explain(self, error: type[Exception], refusal: Refusal) -> None:
        """Answer with *refusal* where a route raises *error*."""

        def refuse(cause: Exception) -> Response[str]:
            if count := self._refusals.admit(refusal.code):
                logger.warning("unavailable", exc_info=cause, code=refusal.code, count=count)
                metrics.add_metric("RequestsUnavailable", MetricUnit.Count, count)
            return answer.error(self.request, refusal)

        self.routes.exception_handler(error)(refuse)

    @property
    def request(self) -> Request:
        """The request that is being answered."""
        return self.routes.context["request"]  # type: ignore[no-any-return] # the resolver's context is untyped

    def answer(self, event: Mapping[str, Any], context: "LambdaContext") -> dict[str, Any]:
        """Answer one event of payload format 2.0. A route that raises is answered as well."""
        request = Request.of(event)
        logger.append_keys(api_request_id=request.request_id)
        self.routes.context["request"] = request
        result = self.routes.resolve(_routed(event, request), context)
        publish()
        result["headers"] = MANNERS | (HSTS if request.is_https else {}) | result["headers"]
        if request.method == "HEAD":  # a link checker is no voter: no body, and no cookie either
            result |= {"body": "", "isBase64Encoded": False, "cookies": []}
        return result

    def _refuse(self, refusal: Refusal) -> Response[str]:
        if count := self._refusals.admit(refusal.code):
            logger.info("refused", extra={"status": refusal.status, "code": refusal.code, "count": count})
            metrics.add_dimension("code", refusal.code)  # this line's only metric, so no other gets the dimension
            metrics.add_metric("RequestsRefused", MetricUnit.Count, count)
        return answer.error(self.request, refusal)

    def _fail(self, error: Exception) -> Response[str]:
        logger.exception("failed", exc_info=error)
        metrics.add_metric("RequestsFailed", MetricUnit.Count, 1)
        message = "Something went wrong on our side. Try again in a moment."
        return answer.error(self.request, Refusal(500, "internal_error", message))


def _routed(event: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """The event with the method and the path by which it is routed here.

    HEAD goes where GET goes. A POST counts whatever slashes too many it came with, since a redirect could lose it;
    a GET that the gateway sent to the wrong function is redirected by `unrouted`.
    """
    http = event["requestContext"]["http"] | {"method": "GET" if request.method == "HEAD" else request.method}
    return {**event, "rawPath": request.path, "requestContext": {**event["requestContext"], "http": http}}
