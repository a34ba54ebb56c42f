"""HTTP answers, in the few kinds that the functions give."""

import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from aws_lambda_powertools.event_handler.api_gateway import Response
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from voting.page import Page, error_page
from voting.refusal import Refusal
from voting.request import Request

HTML = "text/html; charset=utf-8"
JSON = "application/json"
YEAR_S = 365 * 24 * 3600
NEVER_STORED = "no-store"
SHARED_FOR_A_SECOND = "public, max-age=1"
SOON = {"Retry-After": "2"}


def document(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response[str]:
    """JSON for a program."""
    return Response(status, JSON, _json(body), headers)


def html(page: Page, rendered: str, *connect: str, status: int = 200) -> Response[str]:
    """A *rendered* page with the policy that lets it run, and lets it talk to *connect* (URLs) beside ourselves."""
    origins = ("{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in connect)
    return Response(status, HTML, rendered, {"Content-Security-Policy": page.policy(*origins)})


def empty(status: int, headers: Mapping[str, str] | None = None) -> Response[str]:
    """An answer that is all in its status and headers."""
    return Response(status, body="", headers=headers)


def error(request: Request, refusal: Refusal) -> Response[str]:
    """Say why not: on a page to a person, in JSON to a program, with the request's id for whoever looks it up."""
    if not request.wants_page:
        details = {"code": refusal.code, "message": refusal.message, "request_id": request.request_id}
        return document(refusal.status, {"error": details}, refusal.headers)
    answer = html(
        error_page(),
        error_page().render(
            title=HTTPStatus(refusal.status).phrase,
            status=refusal.status,
            message=refusal.message,
            request_id=request.request_id,
        ),
        status=refusal.status,
    )
    answer.headers.update(refusal.headers)
    return answer


def with_cookies(answer: Response[str], request: Request, cookies: Mapping[str, str]) -> Response[str]:
    """Set *cookies* for a year, out of reach of scripts and of other sites."""
    answer.cookies = [
        Cookie(
            name,
            value,
            path="/",
            max_age=YEAR_S,
            http_only=True,
            secure=request.is_https,
            same_site=SameSite.LAX_MODE,
        )
        for name, value in cookies.items()
    ]
    return answer


def cacheable(answer: Response[str], request: Request) -> Response[str]:
    """Let caches keep *answer* for a second and ask by its ETag; 304 where the client has this representation."""
    tag = f'"{hashlib.sha256((answer.body or "").encode()).hexdigest()[:32]}"'
    answer.headers |= {"ETag": tag, "Cache-Control": SHARED_FOR_A_SECOND}
    if not _matches(request.headers.get("if-none-match", ""), tag):
        return answer
    return empty(304, {name: str(value) for name, value in answer.headers.items() if name != "Content-Type"})


def _matches(condition: str, tag: str) -> bool:
    """Weak comparison, as RFC 9110 section 13.1.2 has it. Our tags hold no comma, so splitting is safe."""
    asked = {candidate.strip().removeprefix("W/") for candidate in condition.split(",")}
    return tag in asked or "*" in asked


def _json(body: Mapping[str, object]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))  # labels in any script stay readable
