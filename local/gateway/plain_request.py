"""Reads plain HTTP/1.1 requests: those that nearly all clients send, at a fraction of the cost of a full HTTP server.

Source: RFC 9112, sections 3, 5 and 6. Less is accepted than it allows: no fragment, no obsolete line folding, ASCII
only, and no header that changes how a request is read or answered. Everything else is left to aiohttp.
"""

import re
from dataclasses import dataclass

from local.headers import Headers

HEAD_BYTES = 16 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_HEAD = re.compile(rb"([A-Z]+) (/[!\"$-~]*) HTTP/1\.1((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*)+)")
# A head of ASCII lines that end with CRLF, as far as it has arrived.
_BEGINNING = re.compile(rb"(?:[\t -~]*\r\n)*[\t -~]*\r?")
_NOT_PLAIN = frozenset({"expect", "transfer-encoding", "upgrade"})


class NotPlain(Exception):
    """The request needs a full HTTP server: it is not plain, or longer than a plain one may be."""


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """One request, and the offset at which it ends in the data that was read."""

    method: str
    target: str  # the path and the query as they were sent
    headers: Headers
    body: bytes
    end: int


class PlainReader:
    """Reads requests of the given methods, with bodies of up to *body_bytes*."""

    def __init__(self, *methods: str, body_bytes: int) -> None:
        self._methods = tuple(f"{method} /".encode() for method in methods)
        self._body_bytes = body_bytes
        self.request_bytes = HEAD_BYTES + body_bytes  # the most that one request takes

    def read(self, data: bytes) -> PlainRequest | None:
        """Read the request at the beginning of *data*; None while it is incomplete.

        Raises:
            NotPlain: see there; known as soon as no further bytes could make it plain.
        """
        head_end = data.find(_END_OF_HEAD, 0, HEAD_BYTES)
        if head_end < 0:
            self._check_beginning(data)
            return None
        head = _HEAD.fullmatch(data, 0, head_end)
        if head is None or not data.startswith(self._methods):
            raise NotPlain
        method, target, headers = head[1].decode(), head[2].decode(), _parse_headers(head[3].decode())
        begin = head_end + len(_END_OF_HEAD)
        end = begin + self._body_length(method, headers)
        return PlainRequest(method, target, headers, data[begin:end], end) if len(data) >= end else None

    def _check_beginning(self, data: bytes) -> None:
        """Refuse what never becomes a plain head, so that nothing waits forever for its end.

        Examples are TLS, another protocol and bare line feeds.
        """
        has_method = any(data[: len(method)] == method[: len(data)] for method in self._methods)
        if len(data) >= HEAD_BYTES or not has_method or not _BEGINNING.fullmatch(data):
            raise NotPlain

    def _body_length(self, method: str, headers: Headers) -> int:
        if len(headers.get("host", ())) != 1 or not _NOT_PLAIN.isdisjoint(headers):
            raise NotPlain
        if any(option.lower() != "keep-alive" for option in headers.get("connection", ())):
            raise NotPlain
        lengths = headers.get("content-length", ["0"] if method == "GET" else [])
        # Nine digits: a longer number costs more to read than it can be worth.
        if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > 9 or int(lengths[0]) > self._body_bytes:
            raise NotPlain
        return int(lengths[0])


def _parse_headers(lines: str) -> Headers:
    """Group *lines*, each of which begins with CRLF, by header name."""
    headers: dict[str, list[str]] = {}
    for line in lines.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip(" \t"))
    return headers
