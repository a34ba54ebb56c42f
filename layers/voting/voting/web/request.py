"""An HTTP request as the functions see it: API Gateway's payload format 2.0, read once and at one place."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voting.address import normal_origin

HOST_PREFIX = "__Host-"


class BadBase64(Exception):
    """The gateway says that the body is base64, and it is not."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came in. Header names are lower case; a path never has a double or a trailing slash."""

    method: str
    path: str
    raw_path: str
    headers: Mapping[str, str]
    is_https: bool  # always on AWS; over plain HTTP a Secure cookie is dropped and HSTS would lock the browser out
    cookies: tuple[tuple[str, str], ...]  # name and value, in order, repeated names included
    raw_body: str
    is_base64: bool
    request_id: str

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Request":
        """Read an event of payload format 2.0, as HTTP API and `sam local` send it."""
        http = event["requestContext"]["http"]
        headers = headers_of(event)
        raw_path = event.get("rawPath") or "/"
        return cls(
            method=http["method"].upper(),
            path=canonical(raw_path),
            raw_path=raw_path,
            headers=headers,
            is_https=protocol_of(headers.get("x-forwarded-proto", "")) == "https",
            # AWS moves the cookies out of the headers; what imitates it may leave them there.
            cookies=_cookies("; ".join(event.get("cookies") or ()) or headers.get("cookie", "")),
            raw_body=event.get("body") or "",
            is_base64=bool(event.get("isBase64Encoded")),
            request_id=event["requestContext"]["requestId"],
        )

    @property
    def body(self) -> bytes:
        """The bytes that the client sent.

        Raises:
            BadBase64: they cannot be told.
        """
        if not self.is_base64:
            return self.raw_body.encode("utf-8", "surrogatepass")
        try:
            return base64.b64decode(self.raw_body, validate=True)
        except (binascii.Error, ValueError) as error:  # ValueError: characters beyond ASCII
            raise BadBase64 from error

    @property
    def origin(self) -> str:
        """The origin that this request was sent to, such as `https://vote.example.org`."""
        scheme = "https" if self.is_https else "http"
        return normal_origin(f"{scheme}://{self.headers.get('host', '')}")

    @property
    def wants_page(self) -> bool:
        """Whether a person reads the answer: browsers put text/html first when they navigate, and no program does."""
        is_api = self.path == "/health" or self.path.startswith("/api/")
        return not is_api and self.headers.get("accept", "").lstrip().lower().startswith("text/html")

    def own_cookie(self, name: str) -> str:
        """The cookie *name* as only this host can set it: no other host of the domain can, nor can plain HTTP.

        Browsers hold the prefix to that: RFC 6265bis, section 4.1.3.2. They refuse it over plain HTTP, where the name
        is *name* itself.
        """
        return HOST_PREFIX + name if self.is_https else name

    def cookie_values(self, name: str) -> list[str]:
        """Every value of the cookie *name*: a shared domain or another path can add its own."""
        return [value for cookie, value in self.cookies if cookie == name]


def canonical(path: str) -> str:
    """The path with single slashes and none at its end, so that `//api/votes/` is `/api/votes`."""
    if path[:1] == "/" != path[-1:] and "//" not in path:  # nearly all
        return path
    return "/" + "/".join(part for part in path.split("/") if part)


def headers_of(event: Mapping[str, Any]) -> dict[str, str]:
    """The headers of an *event* of API Gateway, by their names in lower case."""
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}


def protocol_of(forwarded: str) -> str:
    """The protocol that the client spoke, from X-Forwarded-Proto, in lower case.

    The last of several values counts: the gateway wrote it. Those before it may come from the client.
    """
    return "https" if forwarded == "https" else forwarded.rpartition(",")[2].strip().lower()


def _cookies(header: str) -> tuple[tuple[str, str], ...]:
    # Space and tab only, as browsers do. `strip()` takes more, and would make a name with __Host- of one that a browser
    # let another host set, since it began with U+2003 or the like.
    pairs = [part.partition("=") for part in header.split(";") if "=" in part]
    return tuple([(name.strip(" \t"), value.strip(" \t")) for name, _, value in pairs])
