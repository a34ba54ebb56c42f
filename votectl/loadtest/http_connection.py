"""A connection that is kept alive, for one request after the other: HTTP/1.1 (RFC 9112) as far as our API needs it.

A load generator must leave the machine to what it loads: this takes some 50 microseconds for a request.
"""

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

LONGEST_HEAD = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"


class NotSent(Exception):
    """There was no connection: the server cannot have seen the request."""


class NoAnswer(Exception):
    """The request was sent and no whole answer came: it may have been served or not."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `cookies` are those that it sets."""

    status: int
    cookies: dict[str, str]
    body: bytes


class HttpConnection:
    """Requests to one server, one at a time. It connects when it must."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or {"https": 443}.get(parts.scheme, 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._common = f"Host: {parts.netloc.rpartition('@')[2]}\r\n"
        self._timeout_s = timeout_s
        self._stream: _Stream | None = None

    async def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        """Send one request and return its answer.

        Raises:
            NotSent, NoAnswer: also where the answer took longer than the timeout, or is no HTTP.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\n{self._common}{lines}Content-Length: {len(body)}\r\n\r\n"
        stream = await self._connected()
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await stream.exchange(head.encode() + body)
        except (TimeoutError, OSError, ValueError) as error:
            raise NoAnswer(str(error) or "it took too long") from error
        finally:
            if not stream.is_idle:
                self.close()
        return reply

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _connected(self) -> "_Stream":
        if self._stream is None or not self._stream.is_idle:
            self.close()
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(self._timeout_s):
                    _, self._stream = await loop.create_connection(_Stream, self._host, self._port, ssl=self._tls)
            except (TimeoutError, OSError) as error:
                raise NotSent(str(error) or "no connection") from error
        return self._stream


class _Stream(asyncio.Protocol):
    """The bytes of one connection. `is_idle` says that it takes a request."""

    def __init__(self) -> None:
        self.is_idle = False
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[Reply] | None = None

    async def exchange(self, request: bytes) -> Reply:
        assert self._transport is not None  # noqa: S101 - create_connection returns a connected protocol
        self.is_idle = False
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.is_idle = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream connection
        self._transport = transport
        self.is_idle = True

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            parsed = _parse(self._received)
        except (ValueError, IndexError) as error:
            self._fail(ValueError(f"no HTTP: {error}"))
            return
        if parsed is not None and self._answer is not None and not self._answer.done():
            reply, self.is_idle = parsed
            self._answer.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_idle = False
        self._fail(exc if isinstance(exc, OSError) else ConnectionError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _parse(data: bytes) -> tuple[Reply, bool] | None:
    """The answer that *data* holds and whether the connection goes on; None while it is incomplete."""
    head, found, rest = data.partition(END_OF_HEAD)
    if not found:
        if len(data) > LONGEST_HEAD:
            raise ValueError("endless headers")
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    status = int(first.split(" ", 2)[1])
    fields: dict[str, str] = {}
    cookies: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "set-cookie":
            cookie, _, content = value.strip().partition(";")[0].partition("=")
            cookies[cookie] = content
        else:
            fields[name.lower()] = value.strip()
    body = _unchunked(rest) if "chunked" in fields.get("transfer-encoding", "") else _whole(rest, fields, status)
    return None if body is None else (Reply(status, cookies, body), fields.get("connection", "").lower() != "close")


def _whole(rest: bytes, fields: dict[str, str], status: int) -> bytes | None:
    length = 0 if status in {204, 304} else int(fields["content-length"]) if "content-length" in fields else 0
    return rest if len(rest) >= length else None


def _unchunked(rest: bytes) -> bytes | None:
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        length = int(size.partition(b";")[0], 16)
        if len(rest) < length + 2:
            return None
        if length == 0:
            return body
        body, rest = body + rest[:length], rest[length + 2 :]
