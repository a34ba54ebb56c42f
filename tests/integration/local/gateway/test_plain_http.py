"""Plain requests to the HTTP API, and what goes to aiohttp: covers plain_http, plain_request and plain_socket."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from local.gateway.http_api import HttpApi
from local.gateway.http_event import Caller, Response
from local.gateway.plain_http import PlainHttp
from local.hosts import Hosts
from local.template.resources import HttpRoute
from tests.integration.local.gateway.apis import Loop, served

POST = b"POST /votes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET /votes?a=1 HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo(HttpApi):
    """Answers with what it was asked, so that no function is needed."""

    async def answer(self, caller: Caller) -> Response:
        if caller.target == "/broken":
            raise RuntimeError("a mistake")
        status = 204 if caller.target == "/empty" else 200
        text = f"{caller.method} {caller.target} {caller.body.decode()}"
        return Response(status, [("content-type", "text/plain"), ("x-by", "plain")], text.encode())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    loop = Loop()
    api = Echo("HttpApi", [HttpRoute("GET", "/elsewhere", "Missing")], None, hosts=Hosts(["x"]))  # type: ignore[arg-type] # never asked
    with served(loop, api.application, api.plain_http) as port:
        yield port
    loop.close()


@pytest.fixture
def client(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        yield client


def answers(client: socket.socket, count: int) -> list[tuple[int, bool, bytes]]:
    """The status, whether the plain protocol answered, and the body of each answer."""
    found = []
    with client.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(": ")
                headers[name.lower()] = value
            length = int(headers.get("content-length", "0"))
            found.append((status, "x-by" in headers, stream.read(length)))
    return found


def test_requests_on_one_socket_are_answered_in_their_order(client: socket.socket) -> None:
    client.sendall(POST + GET + POST)
    assert answers(client, 3) == [
        (200, True, b"POST /votes {}"),
        (200, True, b"GET /votes?a=1 "),
        (200, True, b"POST /votes {}"),
    ]
    client.sendall(GET)
    assert answers(client, 1) == [(200, True, b"GET /votes?a=1 ")]


def test_a_request_may_come_in_pieces(client: socket.socket) -> None:
    for byte in POST:
        client.sendall(bytes([byte]))
    assert answers(client, 1) == [(200, True, b"POST /votes {}")]


def test_an_empty_answer_has_no_body(client: socket.socket) -> None:
    client.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    assert answers(client, 2) == [(204, True, b""), (200, True, b"GET /votes?a=1 ")]


def test_a_mistake_of_ours_is_a_500_and_the_socket_lives_on(client: socket.socket) -> None:
    client.sendall(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    assert [status for status, _, _ in answers(client, 2)] == [500, 200]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"DELETE /votes HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="another method"),
        pytest.param(
            b"POST /votes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 404, id="chunks"
        ),
        pytest.param(POST.replace(b"Host: x", b"Host: x\r\nConnection: close"), 404, id="a last request"),
        pytest.param(POST.replace(b"Host: x", "Host: x\r\nX-Name: ü".encode()), 404, id="a header beyond ASCII"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 2, 2"), 400, id="two lengths"),
        pytest.param(POST.replace(b"Length: 2", b"Length: -2"), 400, id="a length below zero"),
        pytest.param(POST.replace(b"{}", b"{" * 70_000).replace(b"Length: 2", b"Length: 70000"), 404, id="much"),
        pytest.param(b"GET /votes HTTP/1.0\r\nHost: x\r\n\r\n", 404, id="HTTP/1.0"),
        pytest.param(b"GET /votes HTTP/1.1\r\nX: x\r\n\r\n", 400, id="no host"),
        pytest.param(b"nonsense\r\n\r\n", 400, id="nonsense"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431, id="an endless head"),
    ],
)
def test_what_is_not_plain_is_read_by_the_application(client: socket.socket, request_: bytes, status: int) -> None:
    client.sendall(GET + request_)
    first, second = answers(client, 2)
    assert first[:2] == (200, True)
    assert second[:2] == (status, False)


def test_an_answer_never_waits_for_the_acknowledgement_of_the_last_one() -> None:
    loop, options = Loop(), []
    api = Echo("HttpApi", [], None, hosts=Hosts(["x"]))  # type: ignore[arg-type] # never asked

    class Watched(PlainHttp):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            served_socket = transport.get_extra_info("socket")
            options.append(served_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with (
        served(loop, api.application, lambda successor: Watched(api.answer, set(), successor)) as port,
        socket.create_connection(("127.0.0.1", port), 10) as client,
    ):
        client.sendall(GET)
        answers(client, 1)
    loop.close()
    assert options == [1]


def test_a_socket_is_hung_up_when_the_gateway_goes_away() -> None:
    loop = Loop()
    api = Echo("HttpApi", [], None)  # type: ignore[arg-type] # never asked
    with served(loop, api.application, api.plain_http) as port:
        client = socket.create_connection(("127.0.0.1", port), 10)
        client.sendall(GET)
        answers(client, 1)
    assert client.recv(1) == b""
    client.close()
    loop.close()
