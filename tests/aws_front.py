"""AWS's APIs on a socket: moto, behind a front that notes each call, and that answers in moto's place where asked to.

A call is named `service:Operation`, as in IAM, or `service:METHOD /path` where an API has no operations but paths.
"""

import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
REGION = "eu-central-1"
Answer = tuple[int, str, bytes]  # status, content type, body
HOP = {"connection", "content-length", "host", "transfer-encoding", "server", "date", "content-encoding"}


def as_json(document: Any, status: int = 200) -> Answer:
    return status, "application/x-amz-json-1.1", json.dumps(document).encode()


def as_xml(text: str, status: int = 200) -> Answer:
    return status, "text/xml", text.encode()


def denied(name: str) -> Answer:
    """A refusal as each protocol spells it."""
    service = name.partition(":")[0]
    if service == "ec2":
        return as_xml(
            "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>No.</Message></Error></Errors></Response>",
            403,
        )
    if service in {"rds", "elasticache", "cloudformation", "iam", "sts"}:
        error = "<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>No.</Message></Error>"
        return as_xml(f"<ErrorResponse>{error}</ErrorResponse>", 403)
    return as_json({"__type": "AccessDeniedException", "Message": "No."}, 403)


class AwsFront(ThreadingHTTPServer):
    """Passes calls on to moto. `calls` holds their names in order."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        self.behind = behind
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.calls: list[str] = []
        self.answers: dict[str, Callable[[], Answer | None]] = {}  # None: ask moto after all
        self.hangs: set[str] = set()
        self.never = threading.Event()
        self._clients: dict[str, Any] = {}

    def reset(self) -> None:
        """Forget everything, and empty the account."""
        DIRECTLY.open(urllib.request.Request(f"{self.behind}/moto-api/reset", b""), timeout=60).close()  # noqa: S310
        self.calls.clear()
        self.answers.clear()
        self.hangs.clear()

    def client(self, service: str) -> Any:
        """A client of moto itself, to prepare the account with; its calls are not noted."""
        if service not in self._clients:
            keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
            self._clients[service] = boto3.client(service, REGION, endpoint_url=self.behind, **keys)
        return self._clients[service]

    def answer(self, name: str, *answers: Answer | None) -> None:
        """Answer calls of *name* so, one after the other, and then always with the last."""
        left = list(answers)
        self.answers[name] = lambda: left.pop(0) if len(left) > 1 else left[0]

    def deny(self, *names: str) -> None:
        for name in names:
            self.answer(name, denied(name))


class _Call(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AwsFront

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self._name(body)
        self.server.calls.append(name)
        if name in self.server.hangs or "*" in self.server.hangs:
            self.server.never.wait()
            return
        answer = self.server.answers.get(name, lambda: None)()
        status, headers, content = (
            self._moto(body) if answer is None else (answer[0], {"Content-Type": answer[1]}, answer[2])
        )
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _take  # noqa: N815 - http.server's names

    def _name(self, body: bytes) -> str:
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", self.headers.get("Authorization", ""))
        service = scope[1] if scope else "?"
        if target := self.headers.get("X-Amz-Target"):
            return f"{service}:{target.rpartition('.')[2]}"
        if action := re.search(rb"(?:^|&)Action=(\w+)", body):
            return f"{service}:{action[1].decode()}"
        return f"{service}:{self.command} {self.path}"

    def _moto(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        request = urllib.request.Request(self.server.behind + self.path, body or None, headers, method=self.command)  # noqa: S310 - moto's
        try:
            with DIRECTLY.open(request, timeout=60) as response:
                return response.status, _kept(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _kept(error.headers), error.read()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _kept(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP}


@contextmanager
def aws_front() -> Iterator[AwsFront]:
    """A front, and a moto behind it."""
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # they take a second after each reset
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with AwsFront(f"http://{host}:{port}") as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            yield front
        finally:
            front.never.set()
            front.shutdown()
            thread.join()
            moto.stop()
