"""The WebSocket API: covers websocket_api, websocket_routes, handshake, websocket_event,
websocket_connection and management_api."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import boto3
import httpx
import pytest
from botocore.config import Config
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_api import WebSocketApi
from local.sigv4 import Credentials
from local.template.account import Account
from local.template.resources import WebSocketStage
from tests.integration.local.gateway.apis import DEADLINE_S, Loop, Probe, probing, served, wait_for

STAGE = WebSocketStage(
    api_id="LiveApi",
    stage="live",
    route_selection="$request.body.action",
    routes={"$connect": "Probe", "$disconnect": "Probe", "$default": "Probe", "crowded": "Crowded"},
)


class World:
    def __init__(self, loop: Loop, probe: Probe, account: Account) -> None:
        self.loop, self.probe, self.account = loop, probe, account
        self.credentials = Credentials(account.access_key_id, account.secret_access_key, account.session_token)

    @contextlib.contextmanager
    def serving(self, stage: WebSocketStage = STAGE, **quotas: Any) -> Iterator["Live"]:
        api = WebSocketApi(stage, self.probe.service, [self.credentials], replace(WebSocketQuotas(), **quotas))
        with served(self.loop, api.application, api.plain_posts) as port:
            yield Live(self, api, port)


class Live:
    """A served WebSocket API and how to reach it."""

    def __init__(self, world: World, api: WebSocketApi, port: int) -> None:
        self.world, self.api, self.port = world, api, port

    @property
    def probe(self) -> Probe:
        return self.world.probe

    def connect(self, path: str = "/live", **options: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}{path}", ping_interval=None, max_size=None, **options)

    def management(self, **changed: Any) -> Any:
        account = self.world.account
        options = {
            "region_name": account.region,
            "aws_access_key_id": account.access_key_id,
            "aws_secret_access_key": account.secret_access_key,
            "aws_session_token": account.session_token,
            "config": Config(retries={"total_max_attempts": 1}),
            "endpoint_url": f"http://127.0.0.1:{self.port}/live",
        }
        return boto3.client("apigatewaymanagementapi", **{**options, **changed})

    @contextlib.contextmanager
    def open(self, **options: Any) -> Iterator[tuple[ClientConnection, str]]:
        """Connect; yield the client and the connection's id, as $connect received it."""
        mark = f"mark-{time.monotonic_ns()}"
        with self.connect(f"/live?mark={mark}", **options) as client:
            yield client, self.marked(mark)

    def marked(self, mark: str) -> str:
        """Wait for the $connect event of the client that brought *mark*; return the connection's id."""
        event = wait_for(
            lambda: next(
                (e for e in self.probe.notes("CONNECT") if e.get("queryStringParameters", {}).get("mark") == mark), None
            )
        )
        return str(event["requestContext"]["connectionId"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with probing(tmp_path_factory.mktemp("probe")) as (loop, probe, account):
        yield World(loop, probe, account)


@pytest.fixture(scope="module")
def live(world: World) -> Iterator[Live]:
    with world.serving() as live:
        yield live


def closing(client: ClientConnection) -> tuple[int, str]:
    """Wait until the server has closed; return its code and reason."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(DEADLINE_S)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return a client's frame, masked with zeros."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else b"\xff" + length.to_bytes(8)
    return bytes([(0x80 if fin else 0) | opcode]) + size + bytes(4) + payload


# ---------------------------------------------------------------- the handshake


def test_connect_event_is_what_aws_sends(live: Live) -> None:
    path = "/live?" + urlencode([("mark", "shape"), ("a", "1"), ("a", "2")])
    with live.connect(path, additional_headers={"X-Own-Case": "yes"}, user_agent_header="probe/1", origin="http://x"):
        live.marked("shape")
    event = next(e for e in live.probe.notes("CONNECT") if e["queryStringParameters"].get("mark") == "shape")
    context, headers = event["requestContext"], event["headers"]
    assert (context["routeKey"], context["eventType"], context["messageDirection"]) == ("$connect", "CONNECT", "IN")
    assert (context["stage"], context["apiId"]) == ("live", "LiveApi")
    assert context["domainName"] == headers["Host"] == f"127.0.0.1:{live.port}"
    assert context["identity"] == {"sourceIp": "127.0.0.1", "userAgent": "probe/1"}
    assert context["requestId"] == context["extendedRequestId"]
    assert context["connectionId"].endswith("=")
    assert len(context["connectionId"]) == 16
    assert isinstance(context["connectedAt"], int)
    assert isinstance(context["requestTimeEpoch"], int)
    assert context["requestTime"].endswith(" +0000")
    assert headers["X-Own-Case"] == "yes"
    assert headers["Origin"] == "http://x"
    assert (headers["X-Forwarded-For"], headers["X-Forwarded-Port"]) == ("127.0.0.1", str(live.port))
    assert {name: values[-1] for name, values in event["multiValueHeaders"].items()} == headers
    assert event["queryStringParameters"] == {"mark": "shape", "a": "2"}
    assert event["multiValueQueryStringParameters"] == {"mark": ["shape"], "a": ["1", "2"]}
    assert event["isBase64Encoded"] is False
    assert "body" not in event


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"status": "403"}, 403),
        ({"status": "401"}, 401),
        ({"status": "302"}, 302),
        ({"raise": "1"}, 502),
        ({"return": "null"}, 502),
        ({"return": '{"statusCode": "200"}'}, 502),
    ],
)
def test_connect_that_does_not_agree_refuses_the_handshake(live: Live, query: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        live.connect("/live?" + urlencode(query))
    assert caught.value.response.status_code == status
    fault = json.loads(caught.value.response.body or b"")
    assert {"message", "connectionId", "requestId"} == set(fault)


def test_refused_handshake_has_no_disconnect_and_no_connection(live: Live) -> None:
    with pytest.raises(InvalidStatus) as caught:
        live.connect("/live?status=403")
    connection_id = json.loads(caught.value.response.body or b"")["connectionId"]
    with live.open() as (client, later_id):
        client.close()
    live.probe.noted("DISCONNECT", later_id)
    assert connection_id not in {e["requestContext"]["connectionId"] for e in live.probe.notes("DISCONNECT")}
    with pytest.raises(live.management().exceptions.GoneException):
        live.management().post_to_connection(ConnectionId=connection_id, Data=b"x")


def test_throttled_connect_is_a_500_and_a_slow_one_a_504(world: World) -> None:
    with (
        world.serving(replace(STAGE, routes={"$connect": "Crowded"})) as live,
        pytest.raises(InvalidStatus) as caught,
    ):
        live.connect()
    assert caught.value.response.status_code == 500
    with world.serving(integration_timeout_s=0.2) as live, pytest.raises(InvalidStatus) as caught:
        live.connect("/live?sleep_s=0.6")
    assert caught.value.response.status_code == 504


def test_without_a_connect_route_everybody_connects(world: World) -> None:
    with world.serving(replace(STAGE, routes={})) as live, live.connect() as client:
        client.send("anything")
        fault = json.loads(client.recv(DEADLINE_S))
    assert fault["message"] == "Forbidden"
    assert set(fault) == {"message", "connectionId", "requestId"}


def test_subprotocol_is_the_one_that_connect_chose(live: Live) -> None:
    answer = json.dumps({"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v2"}})
    path = "/live?" + urlencode({"return": answer})
    with live.connect(path, subprotocols=["v1", "v2"]) as client:
        assert client.subprotocol == "v2"


def test_other_paths_and_plain_requests_are_refused(live: Live) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{live.port}") as client:
        assert client.get("/").status_code == 403
        assert client.get("/other").json() == {"message": "Forbidden"}
        assert client.get("/live").status_code == 426
        assert client.post("/live").status_code == 426
        assert "server" not in client.get("/").headers
    with pytest.raises(InvalidStatus) as caught:
        live.connect("/other")
    assert caught.value.response.status_code == 403


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("text", "route_key"),
    [
        ('{"action": "subscribe"}', "$default"),
        ("not JSON", "$default"),
        ("", "$default"),
        ("[1]", "$default"),
        ('{"action": 5}', "$default"),
        ('{"action": "$connect"}', "$default"),
        ("[" * 30_000, "$default"),
    ],
)
def test_message_goes_to_the_default_route_with_its_text(live: Live, text: str, route_key: str) -> None:
    with live.open() as (client, connection_id):
        client.send(text)
        event = live.probe.noted("messages", connection_id)
    context = event["requestContext"]
    assert (context["routeKey"], context["eventType"]) == (route_key, "MESSAGE")
    assert (event["body"], event["isBase64Encoded"]) == (text, False)
    assert context["messageId"]
    assert "headers" not in event


def test_message_goes_to_the_route_that_its_action_names(world: World) -> None:
    routes = {**STAGE.routes, "ping": "Probe"}
    with world.serving(replace(STAGE, routes=routes)) as live, live.open() as (client, connection_id):
        client.send('{"action": "ping"}')
        assert live.probe.noted("messages", connection_id)["requestContext"]["routeKey"] == "ping"


@pytest.mark.parametrize("wish", [{"raise": "oops"}, {"return": None}, {"return": {"body": "no status"}}])
def test_failing_handler_tells_the_client_and_the_socket_stays_open(live: Live, wish: dict[str, Any]) -> None:
    with live.open() as (client, connection_id):
        client.send(json.dumps(wish))
        fault = json.loads(client.recv(DEADLINE_S))
        assert fault["message"] == "Internal server error"
        assert fault["connectionId"] == connection_id
        assert fault["requestId"]
        client.send("still here")
        assert live.probe.noted("messages", connection_id)["body"] == "still here"


def test_throttled_and_slow_handlers_tell_the_client(world: World) -> None:
    with world.serving(integration_timeout_s=1.0) as live, live.connect() as client:
        client.send('{"action": "crowded"}')
        assert json.loads(client.recv(DEADLINE_S))["message"] == "Internal server error"
        client.send('{"sleep_s": 1.5}')
        assert json.loads(client.recv(DEADLINE_S))["message"] == "Endpoint request timed out"


def test_flood_of_one_connection_is_handled_to_the_last_message_and_in_order(world: World) -> None:
    numbers = [str(number) for number in range(100)]
    with world.serving(frames_at_once=1, frames_waiting=4) as live, live.open() as (client, connection_id):
        for number in numbers:
            client.send(number)
        wait_for(lambda: live.probe.bodies(connection_id)[99:])
    assert world.probe.bodies(connection_id) == numbers


def test_fragments_are_one_message_and_pings_are_answered(live: Live) -> None:
    with live.open() as (client, connection_id):
        client.send(["x" * 32768] * 4)
        assert len(live.probe.noted("messages", connection_id)["body"]) == 131072
        assert client.ping().wait(DEADLINE_S)


# ---------------------------------------------------------------- the end of a connection


def test_client_that_closes_is_reported_with_its_code_and_reason(live: Live) -> None:
    with live.open() as (client, connection_id):
        client.close(4000, "bye")
    event = live.probe.noted("DISCONNECT", connection_id)
    context = event["requestContext"]
    assert (context["routeKey"], context["eventType"]) == ("$disconnect", "DISCONNECT")
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (4000, "bye")
    assert event["isBase64Encoded"] is False
    assert live.api.connections == 0


def test_client_that_vanishes_is_reported_as_1006(live: Live) -> None:
    with live.open() as (client, connection_id):
        client.socket.shutdown(socket.SHUT_RDWR)  # not a word before it
        context = live.probe.noted("DISCONNECT", connection_id)["requestContext"]
    assert context["disconnectStatusCode"] == 1006


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"x" * 32769), 1009),
        (frame(1, b"x" * 32768, fin=False) + frame(0, b"x" * 32768, fin=False) * 3 + frame(0, b"x"), 1009),
        (frame(1, b"x" * 500_000), 1009),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(5, b""), 1002),
    ],
)
def test_what_aws_does_not_take_closes_with_its_code(live: Live, data: bytes, code: int) -> None:
    with live.open() as (client, connection_id):
        client.socket.sendall(data)
        assert closing(client)[0] == code
    assert live.probe.noted("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == code


def test_idle_connection_is_closed_and_a_busy_one_is_not(world: World) -> None:
    with world.serving(idle_s=0.5) as live, live.connect() as idle, live.connect() as busy:
        result: list[tuple[int, str]] = []
        watcher = threading.Thread(target=lambda: result.append(closing(idle)))
        watcher.start()
        while watcher.is_alive():
            assert busy.ping().wait(DEADLINE_S)
            watcher.join(0.05)
        assert result == [(1001, "Going away")]
        assert busy.ping().wait(DEADLINE_S)


def test_old_connection_is_closed_however_busy(world: World) -> None:
    with world.serving(age_s=0.3) as live, live.connect() as client:
        assert closing(client) == (1001, "Going away")


def test_client_that_does_not_answer_a_close_is_cut_off(world: World) -> None:
    request = (
        b"GET /live?mark=mute HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with (
        world.serving(closing_s=0.2) as live,
        socket.create_connection(("127.0.0.1", live.port), DEADLINE_S) as mute,
    ):
        mute.sendall(request)
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in mute.recv(4096)  # the example of RFC 6455, section 1.3
        connection_id = live.marked("mute")
        live.management().delete_connection(ConnectionId=connection_id)
        received = b""
        while chunk := mute.recv(4096):
            received += chunk
    assert received.startswith(b"\x88")
    assert world.probe.noted("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == 1000


def test_shutdown_closes_every_socket_with_1001_and_reports_it(world: World) -> None:
    with contextlib.ExitStack() as clients:
        with world.serving() as live:
            opened = [clients.enter_context(live.open()) for _ in range(5)]
        for client, connection_id in opened:
            assert closing(client) == (1001, "Going away")
            context = world.probe.noted("DISCONNECT", connection_id)["requestContext"]
            assert context["disconnectStatusCode"] == 1001


# ---------------------------------------------------------------- @connections


def test_post_reaches_the_subscriber_as_text(live: Live) -> None:
    with live.open() as (client, connection_id):
        for data in (b'{"type": "results"}', "größer".encode(), b"x" * 131072):
            live.management().post_to_connection(ConnectionId=connection_id, Data=data)
            assert client.recv(DEADLINE_S) == data.decode()


def test_unknown_and_closed_connections_are_gone(live: Live) -> None:
    management = live.management()
    with live.open() as (client, connection_id):
        client.close()
    wait_for(lambda: live.api.connections == 0)
    for gone in (connection_id, "L0SM9cOFvHcCIhw=", "a/b", "%", "..", "☃ "):
        with pytest.raises(management.exceptions.GoneException):
            management.post_to_connection(ConnectionId=gone, Data=b"x")
    with pytest.raises(management.exceptions.GoneException):
        management.get_connection(ConnectionId=connection_id)
    with pytest.raises(management.exceptions.GoneException):
        management.delete_connection(ConnectionId=connection_id)


def test_connection_is_gone_until_connect_has_answered(live: Live) -> None:
    management = live.management()
    opened: list[ClientConnection] = []
    thread = threading.Thread(target=lambda: opened.append(live.connect("/live?mark=slow&sleep_s=0.5")))
    thread.start()
    connection_id = live.marked("slow")
    with pytest.raises(management.exceptions.GoneException):
        management.post_to_connection(ConnectionId=connection_id, Data=b"too early")
    thread.join(DEADLINE_S)
    with opened[0] as client:
        management.post_to_connection(ConnectionId=connection_id, Data=b"now")
        assert client.recv(DEADLINE_S) == "now"


def test_get_describes_the_connection(live: Live) -> None:
    with live.open(user_agent_header="probe/2") as (_client, connection_id):
        description = live.management().get_connection(ConnectionId=connection_id)
        assert description["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "probe/2"}
        assert 0 <= (description["LastActiveAt"] - description["ConnectedAt"]).total_seconds() < DEADLINE_S


def test_delete_closes_the_connection(live: Live) -> None:
    with live.open() as (client, connection_id):
        live.management().delete_connection(ConnectionId=connection_id)
        assert closing(client)[0] == 1000
    assert live.probe.noted("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == 1000


def test_message_over_the_quota_is_too_large(live: Live) -> None:
    management = live.management()
    with live.open() as (_client, connection_id):
        for size in (131073, 300_000):
            with pytest.raises(management.exceptions.PayloadTooLargeException):
                management.post_to_connection(ConnectionId=connection_id, Data=b"x" * size)


def test_post_that_is_no_text_is_refused_and_the_client_spared(live: Live) -> None:
    with live.open() as (client, connection_id):
        with pytest.raises(live.management().exceptions.ClientError) as caught:
            live.management().post_to_connection(ConnectionId=connection_id, Data=b"\xff")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert client.ping().wait(DEADLINE_S)


@pytest.mark.parametrize(
    "changed",
    [
        {"aws_access_key_id": "AKIDOTHER"},
        {"aws_secret_access_key": "guess"},
        {"aws_session_token": "another"},
        {"aws_session_token": None},
    ],
)
def test_other_credentials_are_forbidden(live: Live, changed: dict[str, Any]) -> None:
    management = live.management(**changed)
    with live.open() as (_, connection_id), pytest.raises(management.exceptions.ForbiddenException):
        management.post_to_connection(ConnectionId=connection_id, Data=b"x")


def test_unsigned_request_is_forbidden_and_tells_nothing_of_connections(live: Live) -> None:
    with live.open() as (_client, connection_id):
        answers = [
            httpx.post(f"http://127.0.0.1:{live.port}/live/@connections/{quote(wanted)}", content=b"x")
            for wanted in (connection_id, "unknown")
        ]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].json() == answers[1].json()


def test_subscriber_that_does_not_read_is_disconnected_and_delays_no_other(world: World) -> None:
    with (
        world.serving(unsent_bytes=200_000) as live,
        live.open(max_queue=1, close_timeout=0.1) as (_, slow_id),
        live.open() as (quick, quick_id),
    ):
        management = live.management()
        data = b"x" * 131072
        slowest_s = 0.0
        with pytest.raises(management.exceptions.LimitExceededException):  # noqa: PT012 - after how many posts is open
            while True:
                management.post_to_connection(ConnectionId=slow_id, Data=data)
                begun_s = time.monotonic()
                management.post_to_connection(ConnectionId=quick_id, Data=b"on time")
                assert quick.recv(DEADLINE_S) == "on time"
                slowest_s = max(slowest_s, time.monotonic() - begun_s)
        assert slowest_s < 2.0
        with pytest.raises(management.exceptions.GoneException):
            management.post_to_connection(ConnectionId=slow_id, Data=b"x")
        assert live.probe.noted("DISCONNECT", slow_id)["requestContext"]["disconnectStatusCode"] == 1006
