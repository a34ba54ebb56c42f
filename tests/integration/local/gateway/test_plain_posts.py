"""Plain posts, and what goes to the application: aiohttp, which puts a date into its answers.

Covers plain_posts, plain_request, plain_socket and turns.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Iterator

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from local.awslambda.environment import Sandbox
from local.awslambda.service import LambdaService
from local.gateway.plain_posts import PlainPosts
from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_api import WebSocketApi
from local.hosts import Hosts
from local.sigv4 import Credentials
from local.template.account import Account
from local.template.resources import WebSocketStage
from tests.integration.local.gateway.apis import DEADLINE_S, Loop, served

STAGE = WebSocketStage(api_id="LiveApi", stage="live", route_selection="$request.body.action", routes={})
CREDENTIALS = Credentials("ASIAEXAMPLE", "secret", "token")
HOST = "gateway.example"
GONE = "/live/@connections/L0SM9cOFvHcCIhw%3D"


class Client:
    """A socket, and the answers that it gets."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._answers = self.socket.makefile("rb")

    def ask(self, *requests: bytes) -> list[tuple[int, bool, bytes]]:
        """Send *requests* at once; return for each the status, whether the application answered, and the body."""
        self.socket.sendall(b"".join(requests))
        return [self._answer() for _ in requests]

    def _answer(self) -> tuple[int, bool, bytes]:
        status = int(self._answers.readline().split()[1])
        headers = {}
        while line := self._answers.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return status, b"date" in headers, self._answers.read(int(headers[b"content-length"]))

    def close(self) -> None:
        self._answers.close()
        self.socket.close()


@contextlib.contextmanager
def gateway(loop: Loop | None = None) -> Iterator[Client]:
    loop = loop or Loop()
    service = LambdaService({}, Sandbox(Account()))
    api = WebSocketApi(STAGE, service, [CREDENTIALS], WebSocketQuotas(message_bytes=1000), lambda: True, Hosts([HOST]))
    with served(loop, api.application, api.plain_posts) as port:
        yield Client(port)
    loop.close()


@pytest.fixture
def client() -> Iterator[Client]:
    with gateway() as client:
        yield client
        client.close()


def signed(body: bytes = b"{}", path: str = GONE, method: str = "POST", **more: str) -> bytes:
    """A request as botocore signs it, with *more* headers that are not signed."""
    request = AWSRequest(method=method, url=f"http://{HOST}{path}", data=body, headers={"Host": HOST})
    credentials = BotoCredentials(CREDENTIALS.access_key, CREDENTIALS.secret_key, CREDENTIALS.session_token)
    SigV4Auth(credentials, "execute-api", "eu-central-1").add_auth(request)
    headers = dict(request.headers) | {"Content-Length": str(len(body))} | more
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def test_posts_over_one_socket_are_answered_in_order_without_the_application(client: Client) -> None:
    forged = signed().replace(b"Signature=", b"Signature=0")
    encoded = signed(path=GONE.replace("@", "%40"))
    answers = client.ask(signed(), forged, encoded)
    assert [answer[:2] for answer in answers] == [(410, False), (403, False), (410, False)]
    assert answers[0][2] == b'{"message": "The connection is gone."}'


def test_post_in_pieces_is_answered_once_it_is_whole(client: Client) -> None:
    request = signed(b'{"type": "results"}')
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for cut in range(len(request) - 1):
        client.socket.sendall(request[cut : cut + 1])
    ((status, by_application, _),) = client.ask(request[-1:])
    assert (status, by_application) == (410, False)


def test_socket_goes_over_with_the_first_request_that_is_no_plain_post(client: Client) -> None:
    answers = client.ask(signed(), signed(b"", method="GET"), signed())
    assert [answer[:2] for answer in answers] == [(410, False), (410, True), (410, True)]


# Made in the test: a signature is good for five minutes, and the suite may have run for longer by then.
@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        pytest.param(lambda: signed(path=f"{GONE}?a=b"), 410, id="a query"),
        pytest.param(lambda: signed(b"x" * 1002), 413, id="a body over the quota"),
        pytest.param(lambda: signed(Connection="close"), 410, id="a Connection header"),
        pytest.param(lambda: signed(**{"X-Name": "\u00fc"}), 410, id="a header that is not ASCII"),
        pytest.param(lambda: signed(path="/live/elsewhere"), 403, id="another path"),
        pytest.param(lambda: signed(method="DELETE"), 410, id="another method"),
        pytest.param(lambda: b"\r\n" + signed(), 410, id="an empty line in front"),
        pytest.param(lambda: b"nonsense\r\n\r\n", 400, id="nonsense"),
        pytest.param(lambda: signed().replace(b"\r\nContent-Length: 2", b"").removesuffix(b"{}"), 403, id="no length"),
        pytest.param(lambda: signed(**{"Content-Length": "2, 2"}), 400, id="two lengths"),
    ],
)
def test_what_is_no_plain_post_is_answered_by_the_application(
    client: Client, request_of: Callable[[], bytes], status: int
) -> None:
    ((answered, by_application, _),) = client.ask(request_of())
    assert (answered, by_application) == (status, True)


def test_chunked_post_is_answered_by_the_application(client: Client) -> None:
    head = signed().replace(b"Content-Length: 2", b"Transfer-Encoding: chunked").removesuffix(b"{}")
    ((status, by_application, _),) = client.ask(head + b"2\r\n{}\r\n0\r\n\r\n")
    assert (status, by_application) == (410, True)


def test_endless_head_is_refused_by_the_application(client: Client) -> None:
    endless = b"POST /live/@connections/x HTTP/1.1\r\nX-Name: " + b"x" * 2_000_000
    ((status, by_application, _),) = client.ask(endless)
    assert (status, by_application) == (400, True)


def test_many_posts_at_once_make_way_for_what_is_urgent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.gateway.turns.SLICE_S", 0.0)
    loop = Loop()
    with gateway(loop) as first:
        clients = [first, *(Client(first.socket.getpeername()[1]) for _ in range(99))]
        for client in clients:
            client.ask(signed())

        async def turns_until_all_are_answered() -> int:
            for client in clients:
                client.socket.sendall(signed())  # this keeps the event loop, so all of them are there at once
            turns = 0
            while len(select.select([client.socket for client in clients], [], [], 0)[0]) < len(clients):
                await asyncio.sleep(0)
                turns += 1
            return turns

        assert loop.run(turns_until_all_are_answered()) >= len(clients)
        for client in clients:
            client.close()


def test_an_answer_never_waits_for_the_acknowledgement_of_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[int] = []

    class Watched(PlainPosts):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            served_socket = transport.get_extra_info("socket")
            options.append(served_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr("local.gateway.websocket_api.PlainPosts", Watched)
    with gateway() as client:
        client.ask(signed())
        client.close()
    assert options == [1]


def test_socket_is_closed_when_the_gateway_stops() -> None:
    with gateway() as client:
        client.ask(signed())
    assert client.socket.recv(1) == b""
    client.close()
