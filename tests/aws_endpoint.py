"""A service of AWS on a socket of this machine, where moto, which answers inside the client, shows too little."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class AwsEndpoint(ThreadingHTTPServer):
    """Answers each POST, notes what it was sent, and keeps connections open as AWS does."""

    daemon_threads = True

    def __init__(self, answer: Callable[[], tuple[int, bytes]]) -> None:
        """Answer with the status and the body that *answer* returns."""
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answer = answer
        self.requests: list[bytes] = []  # the bodies
        self.connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AwsEndpoint

    def do_POST(self) -> None:
        self.server.requests.append(self.rfile.read(int(self.headers["Content-Length"])))
        status, body = self.server.answer()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, service: str, answer: Callable[[], tuple[int, bytes]]
) -> Iterator[AwsEndpoint]:
    """Have AWS's clients find *service*, as botocore spells it (`SECRETS_MANAGER`), at an endpoint of its own."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with AwsEndpoint(answer) as endpoint:
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", f"http://127.0.0.1:{endpoint.server_port}")
        thread = threading.Thread(target=endpoint.serve_forever)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join()
