"""The Lambda Runtime API (version 2018-06-01) of one execution environment.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. It is on the path of every request, with one client
that it knows, hence a protocol of its own: HTTP/1.1 with Content-Length, and nothing more.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Protocol

_ROOT = "/2018-06-01/runtime/"
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
    """A listener of its own for one environment: its process knows nothing but an address."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._parked: _Connection | None = None

    async def open(self) -> str:
        """Listen on a free port of the loopback interface; return `host:port`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.abort()

    def send(self, invocation: Invocation) -> bool:
        """Answer the parked request for the next event; false where none is parked."""
        parked, self._parked = self._parked, None
        if parked is None:
            return False
        parked.send_event(invocation)
        return True

    def connected(self, connection: "_Connection") -> None:
        self._connections.add(connection)

    def disconnected(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        if self._parked is connection:
            self._parked = None

    def handle(self, connection: "_Connection", method: str, path: str, body: bytes) -> None:
        match method, path.removeprefix(_ROOT).split("/"):
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
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            length = _content_length(head)
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            method, path, _ = head[: head.find(b"\r\n")].decode("latin-1").split(" ", 2)
            self._api.handle(self, method, path, body)

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
