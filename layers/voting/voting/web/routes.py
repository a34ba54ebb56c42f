"""The whole route table, and the answers to what is not on it.

HTTP API matches paths and methods exactly; all the rest reaches the function vote by the route `$default`.
"""

from voting.web import answer
from voting.web.errors import Refusal
from voting.web.request import Request
from voting.web.response import Response

ROUTES = {
    "/": ("GET", "HEAD", "POST"),
    "/api/votes": ("POST",),
    "/results": ("GET", "HEAD"),
    "/api/results": ("GET", "HEAD"),
    "/health": ("GET", "HEAD"),
}


def unrouted(request: Request) -> Response:
    """OPTIONS, a spelling of a known path with slashes too many, a method or a path that does not exist.

    Raises:
        Refusal: 404 not_found or 405 method_not_allowed.
    """
    methods = ROUTES.get(request.path)
    if methods is None:
        raise Refusal(404, "not_found", "There is nothing at this address.")
    allow = {"Allow": ", ".join((*methods, "OPTIONS"))}
    if request.method == "OPTIONS":
        return answer.empty(204, allow)
    if request.method not in methods:
        raise Refusal(405, "method_not_allowed", "This address does not take that method.", allow)
    # Another function serves this path: the gateway finds it by the exact spelling.
    return answer.empty(308, {"Location": request.path})
