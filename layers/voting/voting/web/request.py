"""An HTTP request as the functions see it, parsed from API Gateway's payload format 2.0."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from voting.address import normal_origin

HOST_PREFIX = "__Host-"


class BadBase64(Exception):
    """The gateway marked the body as base64, but it is not."""


class Request(NamedTuple):
    """A request. Header names are lower case; `path` is canonical, `raw_path` is as the client sent it."""

    method: str
    path: str
    raw_path: str
    headers: Mapping[str, str]
    is_https: bool  # always on AWS. Over plain HTTP, browsers drop Secure cookies, and HSTS would lock them out
    cookies: tuple[tuple[str, str], ...]  # names and values in order; names may repeat
    raw_body: str
    is_base64: bool
    request_id: str

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Request":
        """Parse an event of payload format 2.0, as HTTP API and `sam local` send it."""
        http = event["requestContext"]["http"]
        headers = headers_of(event)
        raw_path = event.get("rawPath") or "/"
        return cls(
            method=http["method"].upper(),
            path=canonical(raw_path),
            raw_path=raw_path,
            headers=headers,
            is_https=protocol_of(headers.get("x-forwarded-proto", "")) == "https",
            # AWS moves the cookies out of the headers; emulators may leave them there.
            cookies=_cookies("; ".join(event.get("cookies") or ()) or headers.get("cookie", "")),
            raw_body=event.get("body") or "",
            is_base64=bool(event.get("isBase64Encoded")),
            request_id=event["requestContext"]["requestId"],
        )

    @property
    def body(self) -> bytes:
        """The bytes that the client sent.

        Raises:
            BadBase64: the body cannot be decoded.
        """
        if not self.is_base64:
            return self.raw_body.encode("utf-8", "surrogatepass")
        try:
            return base64.b64decode(self.raw_body, validate=True)
        except (binascii.Error, ValueError) as error:  # ValueError: non-ASCII characters
            raise BadBase64 from error

    @property
    def origin(self) -> str:
        """The origin that this request was sent to, such as `https://vote.example.org`."""
        scheme = "https" if self.is_https else "http"
        return normal_origin(f"{scheme}://{self.headers.get('host', '')}")

    @property
    def wants_page(self) -> bool:
        """Whether a person reads the response: browsers put text/html first when they navigate, and programs do not."""
        is_api = self.path == "/health" or self.path.startswith("/api/")
        return not is_api and self.headers.get("accept", "").lstrip().lower().startswith("text/html")

    def own_cookie(self, name: str) -> str:
        """The name under which only this host can set the cookie *name*, and only over HTTPS.

        Browsers enforce this for the prefix `__Host-` (RFC 6265bis, section 4.1.3.2). They refuse the prefix over plain
        HTTP, where the name is *name* itself.
        """
        return HOST_PREFIX + name if self.is_https else name

    def cookie_values(self, name: str) -> list[str]:
        """All values of the cookie *name*: another host of the domain, or another path, can add its own."""
        return [value for cookie, value in self.cookies if cookie == name]


def canonical(path: str) -> str:
    """The path without double or trailing slashes: `//api/votes/` becomes `/api/votes`."""
    if path[:1] == "/" != path[-1:] and "//" not in path:  # true of nearly all paths
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
    # Strip only spaces and tabs, as browsers do. `strip()` also removes U+2003 and others. Browsers let any host of the
    # domain set a cookie whose name is U+2003 and then `__Host-…`; it would pass for one that only we can set.
    pairs = [part.partition("=") for part in header.split(";") if "=" in part]
    return tuple([(name.strip(" \t"), value.strip(" \t")) for name, _, value in pairs])
