"""Two hosts of one domain over HTTPS: the voting site, and a host that sets cookies for all of the domain."""

import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from local.gateway.http_event import Caller, Response, event_of, response_of
from local.headers import by_name
from tests import certificate

NAME, VICTIM, EVIL = "example.test", "victim.example.test", "evil.example.test"
Answer = Callable[[dict[str, Any]], bytes]  # an event's answer, in JSON


class Domain(ThreadingHTTPServer):
    """Both hosts on one port. The voting site gets events as AWS makes them, which say that the client used HTTPS."""

    daemon_threads = True  # browsers keep connections that they opened to be ready

    def __init__(self, answer: Answer, pem: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.tossed: list[str] = []  # what the other host sets, as values of Set-Cookie
        self.received: list[str] = []  # the cookies of each request to the voting site
        self._answer = answer
        self._one_at_a_time = threading.Lock()  # as an execution environment works

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where the browser broke off: it does so once before it accepts the certificate."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def url(self, host: str) -> str:
        return f"https://{host}:{self.server_port}/"

    def vote(self, caller: Caller) -> Response:
        with self._one_at_a_time:
            event = event_of(caller, caller.target, f"{caller.method} {caller.target}", "api", "request")
            event["headers"]["x-forwarded-proto"] = "https"
            self.received.append("; ".join(event.get("cookies", [])))
            return response_of(self._answer(event))


@contextmanager
def running(answer: Answer, folder: Path) -> Iterator[Domain]:
    """Serve both hosts until the end of the block."""
    with Domain(answer, certificate.write(folder / "domain.pem")) as domain:
        thread = threading.Thread(target=domain.serve_forever)
        thread.start()
        try:
            yield domain
        finally:
            domain.shutdown()
            thread.join()


class _Exchange(BaseHTTPRequestHandler):
    server: Domain

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        if self.headers["Host"].startswith(EVIL):
            cookies = [("set-cookie", cookie) for cookie in self.server.tossed]
            return self._send(Response(200, [("content-type", "text/html"), *cookies], b"<p>Kittens</p>"))
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = by_name(self.headers.items())
        caller = Caller(self.command, self.path, "HTTP/1.1", headers, body, "127.0.0.1", 443)
        return self._send(self.server.vote(caller))

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in [*response.headers, ("content-length", str(len(response.body)))]:
            # As bytes: an enemy's names need not be Latin-1.
            self._headers_buffer.append(f"{name}: {value}\r\n".encode())
        self.end_headers()
        self.wfile.write(response.body)
