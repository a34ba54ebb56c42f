"""A stand-in for API Gateway's management API that does little, so that it is faster than any contender.

`python -m bench.load.management_stub` serves on a free port of 127.0.0.1 until its input ends, and prints the port. It
checks no signature and responds with the headers of API Gateway. The first letter of the connection id decides the
response to a post: `g` is gone (410), `t` is throttled the first time (429), `h` gets no response, any other id gets
the frame (200). GET returns what happened since the last GET, as the JSON of `Told`.
"""

import argparse
import json
import os
import resource
import select
import socket
import ssl
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

READ_BYTES = 16384  # a TLS record
HEAD = (
    "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n"
    "x-amzn-RequestId: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\nx-amz-apigw-id: L0SM9cOFvHcEPkQ=\r\n"
)


class Letter:
    """The first letter of connection ids that do not simply get their frame."""

    GONE, HANG, THROTTLE = "g", "h", "t"


def _answer(status: str, body: str = "", error: str = "") -> bytes:
    kind = f"x-amzn-ErrorType: {error}\r\n" if error else ""
    return f"HTTP/1.1 {status}\r\n{HEAD}{kind}Content-Length: {len(body)}\r\n\r\n{body}".encode()


OK = _answer("200 OK")
ANSWER_GONE = _answer("410 Gone", '{"message": null}', "GoneException")
ANSWER_THROTTLED = _answer("429 Too Many Requests", '{"message": null}', "LimitExceededException")


@dataclass(slots=True)
class Told:
    """What the stub did since the last GET."""

    posts: int = 0
    lines: int = 0  # connections accepted
    last_sent_at: float = 0.0  # time.monotonic() of the last 200; all processes share this clock
    cpu_s: float = 0.0  # of the stub itself


class _Line:
    """One accepted connection."""

    __slots__ = ("received", "shaken", "socket")

    def __init__(self, accepted: socket.socket, *, shaken: bool) -> None:
        self.socket = accepted
        self.shaken = shaken
        self.received = b""


class _Stub:
    def __init__(self, certificate: Path | None, delay_s: float) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._context = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._delay_s = delay_s
        self._late: deque[tuple[float, _Line, bytes]] = deque()  # when to answer; the delay is the same for all
        self._lines: dict[int, _Line] = {}
        self._throttled: set[bytes] = set()
        self._told = Told()
        self._cpu_s = time.process_time()
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)

    def serve(self) -> None:
        """Serve until standard input ends."""
        lines, listener, stdin = self._lines, self._listener.fileno(), sys.stdin.fileno()
        while True:
            for fd, _ in self._poll.poll(self._pause_s(), 1024):
                if line := lines.get(fd):
                    self._read(line)
                elif fd == listener:
                    self._accept()
                elif fd == stdin:
                    return
            self._answer_late()

    def _pause_s(self) -> float:
        return max(0.0, self._late[0][0] - time.monotonic()) if self._late else -1.0

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                accepted = self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
            line = _Line(accepted, shaken=self._context is None)
            self._lines[accepted.fileno()] = line
            self._poll.register(accepted.fileno(), select.EPOLLIN)
            self._told.lines += 1

    def _read(self, line: _Line) -> None:
        try:
            if not line.shaken:
                assert isinstance(line.socket, ssl.SSLSocket)
                line.socket.do_handshake()
                line.shaken = True
            data = line.socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            del self._lines[line.socket.fileno()]
            line.socket.close()
            return
        if line.received:
            data = line.received + data
        end = data.find(b"\r\n\r\n")
        length = data.find(b"ength: ", 0, end)  # of Content-Length, in upper or lower case
        if end < 0 or (length >= 0 and len(data) < end + 4 + int(data[length + 7 : data.find(b"\r", length)])):
            line.received = data
            return
        line.received = b""
        self._request(line, data)

    def _request(self, line: _Line, request: bytes) -> None:
        if request.startswith(b"GET"):
            self._send(line, self._tell())
            return
        self._told.posts += 1
        end = request.find(b" ", 5)
        match chr(request[request.rfind(b"/", 0, end) + 1]):
            case Letter.GONE:
                answer = ANSWER_GONE
            case Letter.HANG:
                return
            case Letter.THROTTLE:
                connection_id = request[5:end]
                answer = OK if connection_id in self._throttled else ANSWER_THROTTLED
                self._throttled.add(connection_id)
            case _:
                answer = OK
        if self._delay_s:
            self._late.append((time.monotonic() + self._delay_s, line, answer))
        else:
            self._send(line, answer)

    def _answer_late(self) -> None:
        late, now = self._late, time.monotonic()
        while late and late[0][0] <= now:
            _, line, answer = late.popleft()
            self._send(line, answer)

    def _send(self, line: _Line, answer: bytes) -> None:
        try:
            line.socket.send(answer)
        except OSError:  # the client has closed; the poll reports that next
            return
        if answer is OK:
            self._told.last_sent_at = time.monotonic()

    def _tell(self) -> bytes:
        self._told.cpu_s = time.process_time() - self._cpu_s
        told, self._told, self._cpu_s = self._told, Told(), time.process_time()
        self._throttled.clear()
        return _answer("200 OK", json.dumps(asdict(told)))


@dataclass(frozen=True, slots=True)
class Management:
    """The address of a running stub."""

    port: int
    secure: bool

    def told(self) -> Told:
        """What the stub did since the last call."""
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            if self.secure:
                with ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1") as line:
                    return _ask(line)
            return _ask(plain)


@contextmanager
def serving(core: int, certificate: Path | None = None, delay_ms: float = 0.0) -> Iterator[Management]:
    """Run a stub on *core*, over TLS if there is a *certificate* (and its key, in one PEM file)."""
    command = [sys.executable, "-m", "bench.load.management_stub", "--core", str(core), "--delay-ms", str(delay_ms)]
    if certificate:
        command += ["--certificate", str(certificate)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield Management(int(process.stdout.readline()), certificate is not None)
        finally:
            process.stdin.close()


def _ask(line: socket.socket) -> Told:
    line.sendall(b"GET / HTTP/1.1\r\nHost: stub\r\n\r\n")
    return Told(**json.loads(line.recv(READ_BYTES).partition(b"\r\n\r\n")[2]))


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stub = _Stub(arguments.certificate, arguments.delay_ms / 1000)
    print(stub.port, flush=True)
    stub.serve()


if __name__ == "__main__":
    _main()
