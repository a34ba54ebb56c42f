"""Requests sent ahead of their answers are bounded, and end with their client: covers plain_socket and any_http."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from local.awslambda.environment import Sandbox
from local.awslambda.invocation import Answer
from local.awslambda.service import LambdaService
from local.gateway.http_api import HttpApi
from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_api import WebSocketApi
from local.template.account import Account
from local.template.resources import HttpRoute, WebSocketStage
from tests.integration.local.gateway.apis import DEADLINE_S, Loop, served, wait_for

GET = b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n"
OTHER = b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n"
MANY = 10_000
TOO_MUCH = 64 * 1024 * 1024  # more than the buffers of the two sockets hold
BLOCKED_S = 2.0


class Gated:
    """Functions that count the flood's invocations and hold them up until the gate opens."""

    def __init__(self, body: str) -> None:
        self.flood = 0
        self.gate = asyncio.Event()
        self._body = body

    async def invoke(self, _name: str, payload: bytes) -> Answer:
        if json.loads(payload)["rawPath"] == "/other":
            return Answer(b'{"statusCode": 200}')
        self.flood += 1
        await self.gate.wait()
        return Answer(json.dumps({"statusCode": 200, "body": self._body}).encode())


class World:
    """A gateway, and a client that floods it."""

    def __init__(self, loop: Loop, functions: Gated, port: int) -> None:
        self.loop, self.functions, self.port = loop, functions, port

    def open_gate(self) -> None:
        async def open_() -> None:
            self.functions.gate.set()

        self.loop.run(open_())

    def serve_another(self, times: int) -> None:
        """Answer another client so many times: by then the flood would have had its turns, too."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE_S) as client, client.makefile("rb") as stream:
            for _ in range(times):
                client.sendall(OTHER)
                assert stream.readline().startswith(b"HTTP/1.1 200 ")
                while stream.readline().strip():
                    pass


@contextlib.contextmanager
def flooding(is_plain: bool, body: str = "") -> Iterator[tuple[World, socket.socket]]:
    loop = Loop()
    functions = Gated(body)
    api = HttpApi("HttpApi", [HttpRoute("ANY", "$default", "F")], functions)  # type: ignore[arg-type] # invoke only
    with (
        served(loop, api.application, api.plain_http if is_plain else None) as port,
        socket.create_connection(("127.0.0.1", port), DEADLINE_S) as client,
    ):
        world = World(loop, functions, port)
        yield world, client
        world.open_gate()
        client.close()
    loop.close()


def sent_ahead(client: socket.socket, request: bytes) -> int:
    """Send *request* again and again until the gateway takes no more; return how many bytes that are."""
    client.settimeout(BLOCKED_S)
    chunk, sent = request * 10_000, 0
    with contextlib.suppress(TimeoutError):
        while sent < TOO_MUCH:
            sent += client.send(chunk[sent % len(request) :])
    return sent


both = pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "application"])


@both
@pytest.mark.parametrize("half_close", [False, True], ids=["closes", "closes its half first"])
def test_a_flood_ends_with_its_client(is_plain: bool, half_close: bool) -> None:
    with flooding(is_plain) as (world, client):
        client.sendall(GET * MANY)
        wait_for(lambda: world.functions.flood)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        client.close()
        world.open_gate()
        world.serve_another(100)
        assert world.functions.flood <= 5


@both
def test_what_a_client_sends_ahead_is_bounded(is_plain: bool) -> None:
    with flooding(is_plain) as (world, client):
        assert sent_ahead(client, GET) < TOO_MUCH
        assert world.functions.flood == 1


@both
def test_a_client_that_does_not_read_its_answers_gets_no_more(is_plain: bool) -> None:
    with flooding(is_plain, "x" * 2**20) as (world, client):
        world.open_gate()
        client.sendall(GET * MANY)
        world.serve_another(300)
        assert world.functions.flood < 50


@both
def test_a_client_that_reads_gets_every_answer_however_far_it_is_ahead(is_plain: bool) -> None:
    with flooding(is_plain, "x" * 100) as (world, client), client.makefile("rb") as stream:
        client.sendall(GET * MANY)
        world.open_gate()
        client.shutdown(socket.SHUT_WR)
        assert stream.read().count(b"HTTP/1.1 200 OK") == MANY


def test_unread_answers_to_posts_are_bounded() -> None:
    post = b"POST /live/@connections/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    stage = WebSocketStage("LiveApi", "live", "$request.body.action", {})
    loop, account = Loop(), Account()
    api = WebSocketApi(stage, LambdaService({}, Sandbox(account)), account.keyring, WebSocketQuotas())
    with (
        served(loop, api.application, api.plain_posts) as port,
        socket.create_connection(("127.0.0.1", port), DEADLINE_S) as client,
    ):
        assert sent_ahead(client, post) < TOO_MUCH
    loop.close()
