"""What a route returns, in the few kinds that the functions use."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from voting.web.errors import HttpError
from voting.web.page import Page, error_page
from voting.web.request import Request

HTML = "text/html; charset=utf-8"
JSON = "application/json"
YEAR_S = 365 * 24 * 3600
NOT_STORED = "no-store"
SHARED_FOR_A_SECOND = "public, max-age=1"
RETRY_SOON = {"Retry-After": "2"}

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # labels in any script stay readable


class Response(NamedTuple):
    """Status, body and headers; `cookies` are the values of Set-Cookie headers."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = MappingProxyType({})
    cookies: tuple[str, ...] = ()

    @classmethod
    def json(cls, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> "Response":
        """A JSON object, for a program."""
        return cls(status, _encode(body), {"Content-Type": JSON, **(headers or {})})

    @classmethod
    def html(cls, page: Page, rendered: str, *connect: str, status: int = 200) -> "Response":
        """A *rendered* page with its Content-Security-Policy, which also allows connections to the URLs *connect*."""
        origins = ("{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in connect)
        return cls(status, rendered, {"Content-Type": HTML, "Content-Security-Policy": page.policy(*origins)})

    @classmethod
    def empty(cls, status: int, headers: Mapping[str, str] | None = None) -> "Response":
        """No body: the status and the headers say it all."""
        return cls(status, headers=headers or {})

    def with_headers(self, headers: Mapping[str, str]) -> "Response":
        """The same response with *headers* added; they replace headers of the same name."""
        return self._replace(headers={**self.headers, **headers})

    def with_cookies(self, request: Request, cookies: Mapping[str, str], max_age_s: int = YEAR_S) -> "Response":
        """The same response with *cookies* added, which neither scripts nor other sites can read; 0 s deletes them."""
        attributes = f"Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{'; Secure' if request.is_https else ''}"
        lines = [f"{name}={value}; {attributes}" for name, value in cookies.items()]
        # `replace` takes twice as long.
        return Response(self.status, self.body, self.headers, (*self.cookies, *lines))

    def cacheable(self, request: Request) -> "Response":
        """Let caches keep this response for a second, then revalidate it by its ETag; 304 if the client has it."""
        tag = f'"{hashlib.sha256(self.body.encode()).hexdigest()[:32]}"'
        response = self.with_headers({"ETag": tag, "Cache-Control": SHARED_FOR_A_SECOND})
        if not _matches(request.headers.get("if-none-match", ""), tag):
            return response
        return Response.empty(304, {name: value for name, value in response.headers.items() if name != "Content-Type"})


def error_response(request: Request, error: HttpError) -> Response:
    """Report *error* as a page to a person or as JSON to a program, with the request's id to look up in the logs."""
    if not request.wants_page:
        details = {"code": error.code, "message": error.message, "request_id": request.request_id}
        return Response.json(error.status, {"error": details}, error.headers)
    from http import HTTPStatus  # noqa: PLC0415 - only these pages name a status

    rendered = error_page().render(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        message=error.message,
        request_id=request.request_id,
    )
    return Response.html(error_page(), rendered, status=error.status).with_headers(error.headers)


def _matches(condition: str, tag: str) -> bool:
    """Weak comparison after RFC 9110, section 13.1.2. Our tags contain no comma, so splitting is safe."""
    tags = {candidate.strip().removeprefix("W/") for candidate in condition.split(",")}
    return tag in tags or "*" in tags
