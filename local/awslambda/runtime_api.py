"""The Lambda Runtime API (version 2018-06-01) of one execution environment.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Every request passes it, and its one client is
known, so it has a protocol of its own: HTTP/1.1 with Content-Length, and nothing more.

Events hold voters' cookies, so that client alone may ask for them. It is identified by a secret in the path, which only
its environment variables hold: other users of the machine cannot read them. Web pages are refused by the headers that
browsers add to a request, even if a function has shown the secret.
"""

import asyncio
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from typing import Protocol

_log = logging.getLogger("local.lambda")

_ROOT = "/2018-06-01/runtime/"
_LINE_BYTES = 4096  # of the request line: the limit until a client has shown the secret
_BROWSERS = re.compile(rb"\r\n(?:origin|referer|sec-[a-z-]+)[ \t]*:", re.IGNORECASE)
_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
MAX_PAYLOAD = 6 * 1024 * 1024
MAX_RESPONSE = MAX_PAYLOAD + 100  # the 6,291,556 bytes of Lambda's own message


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event on its way to the handler."""

    request_id: str
    payload: bytes
    deadline_ms: int
    function_arn: str
    trace_id: str


class Runtime(Protocol):
    """What the process on the other end did."""

    def asked_for_next(self) -> None: ...
    def responded(self, request_id: str, body: bytes) -> None: ...
    def response_too_large(self, request_id: str) -> None: ...
    def failed(self, request_id: str, body: bytes) -> None: ...
    def init_failed(self, body: bytes) -> None: ...


class RuntimeApi:
    """The listener of one environment, whose process knows only its address, with a secret in the path."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._secret = f"/{secrets.token_urlsafe(32)}"
        self._host = b""
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._parked: _Connection | None = None
        self._has_refused = False

    async def open(self) -> str:
        """Listen on a free port of the loopback interface; return `host:port/secret`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self._host = f"{host}:{port}".encode()
        return f"{host}:{port}{self._secret}"

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.abort()

    def send(self, invocation: Invocation) -> bool:
        """Answer the parked request for the next event; false if none is parked."""
        parked, self._parked = self._parked, None
        if parked is None:
            return False
        parked.send_event(invocation)
        return True

    def knows(self, target: bytes) -> bool:
        """Tell whether a request for *target* holds the secret."""
        return hmac.compare_digest(target[: len(self._secret)], self._secret.encode())

    def is_from_program(self, head: bytes) -> bool:
        """Tell whether the request with this *head* is for this host, and not from a browser."""
        hosts = _HOST.findall(head)
        return hosts == [self._host] and _BROWSERS.search(head) is None

    def refused(self) -> None:
        """Log the first refused request only, so that a flood of them does not flood the log."""
        if not self._has_refused:
            self._has_refused = True
            _log.warning("a Runtime API refused a request that is not its environment's")

    def connected(self, connection: "_Connection") -> None:
        self._connections.add(connection)

    def disconnected(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        if self._parked is connection:
            self._parked = None

    def handle(self, connection: "_Connection", method: str, path: str, body: bytes) -> None:
        match method, path[len(self._secret) :].removeprefix(_ROOT).split("/"):
            case "GET", ["invocation", "next"]:
                self._parked = connection
                self.runtime.asked_for_next()
            case "POST", ["invocation", request_id, "response"] if len(body) > MAX_RESPONSE:
                connection.answer("413 Request Entity Too Large", b'{"errorType":"RequestEntityTooLarge"}')
                self.runtime.response_too_large(request_id)
            case "POST", ["invocation", request_id, "response"]:
                connection.answer("202 Accepted", b'{"status":"OK"}')
                self.runtime.responded(request_id, body)
            case "POST", ["invocation", request_id, "error"]:
                connection.answer("202 Accepted", b'{"status":"OK"}')
                self.runtime.failed(request_id, body)
            case "POST", ["init", "error"]:
                connection.answer("202 Accepted", b'{"status":"OK"}')
                self.runtime.init_failed(body)
            case _:
                connection.answer("404 Not Found", b'{"errorType":"NotFound"}')


class _Connection(asyncio.Protocol):
    """One keep-alive connection of the runtime client."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        self._transport = transport
        self._api.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._api.disconnected(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            line_end = self._buffer.find(b"\r\n", 0, _LINE_BYTES)
            if line_end < 0 and len(self._buffer) < _LINE_BYTES:
                return
            method, _, target = bytes(self._buffer[: max(line_end, 0)]).partition(b" ")
            if not self._api.knows(target):
                self._refuse()
                return
            if not self._take(method, target.partition(b" ")[0]):
                return

    def _take(self, method: bytes, target: bytes) -> bool:
        """Hand over the first request of the buffer; false if it is incomplete or was refused."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        if not self._api.is_from_program(head):
            self._refuse()
            return False
        length = _content_length(head)
        if len(self._buffer) < end + 4 + length:
            return False
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        self._api.handle(self, method.decode("latin-1"), target.decode("latin-1"), body)
        return True

    def _refuse(self) -> None:
        self._api.refused()
        self._buffer.clear()
        self.answer("403 Forbidden", b'{"errorType":"Forbidden"}')
        if self._transport is not None:
            self._transport.close()

    def answer(self, status: str, body: bytes) -> None:
        self._write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n", body)

    def send_event(self, invocation: Invocation) -> None:
        self._write(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {invocation.deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {invocation.function_arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {invocation.trace_id}\r\n"
            f"Content-Length: {len(invocation.payload)}\r\n\r\n",
            invocation.payload,
        )

    def _write(self, head: str, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(head.encode("latin-1") + body)


def _content_length(head: bytes) -> int:
    found = _CONTENT_LENGTH.search(head)
    return int(found[1]) if found else 0
