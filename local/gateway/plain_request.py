"""Reads plain HTTP/1.1 requests: those that nearly all clients send, at a fraction of the cost of a full HTTP server.

llhttp parses the head, by httptools. A request that is read or answered in another way than most is left to aiohttp.
"""

from dataclasses import dataclass

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from local.headers import Headers

HEAD_BYTES = 16 * 1024
_END_OF_HEAD = b"\r\n\r\n"
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
        self._beginnings = tuple(f"{method} /".encode() for method in methods)
        self._body_bytes = body_bytes
        self.request_bytes = HEAD_BYTES + body_bytes  # the most that one request takes

    def read(self, data: bytes) -> PlainRequest | None:
        """Read the request at the beginning of *data*; None while it is incomplete.

        Raises:
            NotPlain: see there; known as soon as no further bytes could make it plain.
        """
        if not any(data[: len(beginning)] == beginning[: len(data)] for beginning in self._beginnings):
            raise NotPlain
        head_end = data.find(_END_OF_HEAD, 0, HEAD_BYTES)
        if head_end < 0:
            if len(data) >= HEAD_BYTES:
                raise NotPlain
            _Head(data)  # refuses what never becomes a head, so that nothing waits forever for its end
            return None
        begin = head_end + len(_END_OF_HEAD)
        head = _Head(data[:begin])
        end = begin + self._body_length(head)
        if len(data) < end:
            return None
        return PlainRequest(head.method, head.target, head.headers, data[begin:end], end)

    def _body_length(self, head: "_Head") -> int:
        headers = head.headers
        if head.version != "1.1" or len(headers.get("host", ())) != 1 or not _NOT_PLAIN.isdisjoint(headers):
            raise NotPlain
        if any(option.lower() != "keep-alive" for option in headers.get("connection", ())):
            raise NotPlain
        lengths = headers.get("content-length", ["0"] if head.method == "GET" else [])
        # Digits, since llhttp refuses all else. Nine at most: a longer number costs more to read than it can be worth.
        if len(lengths) != 1 or len(lengths[0]) > 9 or int(lengths[0]) > self._body_bytes:
            raise NotPlain
        return int(lengths[0])


class _Head:
    """What llhttp finds in the head of a request, or in the beginning of one."""

    def __init__(self, data: bytes) -> None:
        self.target = ""
        self.headers: dict[str, list[str]] = {}
        parser = HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:  # malformed, or the client asks for another protocol
            raise NotPlain from error
        if not data.isascii() or "#" in self.target:
            raise NotPlain
        self.method = parser.get_method().decode()
        self.version = parser.get_http_version()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target: llhttp calls this and the following."""
        self.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip(" \t"))
