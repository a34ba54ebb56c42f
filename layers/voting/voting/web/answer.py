"""HTTP answers, in the few kinds that the functions give."""

import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from voting.web.errors import Refusal
from voting.web.page import Page, error_page
from voting.web.request import Request
from voting.web.response import Response

HTML = "text/html; charset=utf-8"
JSON = "application/json"
YEAR_S = 365 * 24 * 3600
NEVER_STORED = "no-store"
SHARED_FOR_A_SECOND = "public, max-age=1"
SOON = {"Retry-After": "2"}
KEPT = f"Path=/; Max-Age={YEAR_S}; HttpOnly; SameSite=Lax"

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # labels in any script stay readable


def document(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    """JSON for a program."""
    return Response(status, encode(body), {"Content-Type": JSON, **(headers or {})})


def html(page: Page, rendered: str, *connect: str, status: int = 200) -> Response:
    """A *rendered* page with the policy that lets it run, and lets it talk to *connect* (URLs) beside ourselves."""
    origins = ("{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in connect)
    return Response(status, rendered, {"Content-Type": HTML, "Content-Security-Policy": page.policy(*origins)})


def empty(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is all in its status and headers."""
    return Response(status, headers=headers or {})


def error(request: Request, refusal: Refusal) -> Response:
    """Say why not: on a page to a person, in JSON to a program, with the request's id for whoever looks it up."""
    if not request.wants_page:
        details = {"code": refusal.code, "message": refusal.message, "request_id": request.request_id}
        return document(refusal.status, {"error": details}, refusal.headers)
    rendered = error_page().render(
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        message=refusal.message,
        request_id=request.request_id,
    )
    return html(error_page(), rendered, status=refusal.status).with_headers(refusal.headers)


def with_cookies(answer: Response, request: Request, cookies: Mapping[str, str]) -> Response:
    """Set *cookies* for a year, out of reach of scripts and of other sites."""
    attributes = f"{KEPT}; Secure" if request.is_https else KEPT
    lines = [f"{name}={value}; {attributes}" for name, value in cookies.items()]
    return Response(answer.status, answer.body, answer.headers, tuple(lines))  # `replace` takes twice as long


def cacheable(answer: Response, request: Request) -> Response:
    """Let caches keep *answer* for a second and ask by its ETag; 304 where the client has this representation."""
    tag = f'"{hashlib.sha256(answer.body.encode()).hexdigest()[:32]}"'
    answer = answer.with_headers({"ETag": tag, "Cache-Control": SHARED_FOR_A_SECOND})
    if not _matches(request.headers.get("if-none-match", ""), tag):
        return answer
    return empty(304, {name: value for name, value in answer.headers.items() if name != "Content-Type"})


def _matches(condition: str, tag: str) -> bool:
    """Weak comparison, as RFC 9110 section 13.1.2 has it. Our tags hold no comma, so splitting is safe."""
    asked = {candidate.strip().removeprefix("W/") for candidate in condition.split(",")}
    return tag in asked or "*" in asked
