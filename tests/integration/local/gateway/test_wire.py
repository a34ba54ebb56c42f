"""Unusual requests over real sockets to each of the three ports: covers any_http, hosts and the three APIs."""

import http.client
import json
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from local.awslambda.invoke_api import InvokeApi
from local.gateway.http_api import HttpApi
from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_api import WebSocketApi
from local.hosts import Hosts
from local.template.account import Account
from local.template.resources import HttpRoute, WebSocketStage
from tests.integration.local.gateway.apis import Loop, Probe, probing, served, wait_for

AT_ONCE_S = 5.0  # an answer that takes longer came from a timeout of ours
KINDS = ("http", "websocket", "lambda")
INVOKE = "/2015-03-31/functions/Probe/invocations"
EVENT = json.dumps({"requestContext": {}, "body": "called"})
HOSTS = Hosts(["a", "x", "vote.example", "live.example"])
HANDSHAKE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"


@dataclass(frozen=True)
class Gateway:
    ports: dict[str, int]
    websocket: WebSocketApi
    probe: Probe
    loop: Loop
    account: Account

    def signed(self, request: str) -> bytes:
        """*request* to invoke the probe, signed for the host `localhost`."""
        head, _, body = request.partition("\r\n\r\n")
        request_to_sign = AWSRequest("POST", f"http://localhost{INVOKE}", data=body.encode())
        keys = (self.account.access_key_id, self.account.secret_access_key, self.account.session_token)
        SigV4Auth(BotoCredentials(*keys), "lambda", "eu-central-1").add_auth(request_to_sign)
        lines = [f"{name}: {value}" for name, value in request_to_sign.headers.items()]
        return "\r\n".join([head, *lines, "", body]).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    stage = WebSocketStage("LiveApi", "live", "$request.body.action", {"$connect": "Probe", "$default": "Probe"})
    with ExitStack() as stack:
        loop, probe, account = stack.enter_context(probing(tmp_path_factory.mktemp("probe")))
        http = HttpApi("HttpApi", [HttpRoute("ANY", "$default", "Probe")], probe.service, hosts=HOSTS)
        quotas = WebSocketQuotas(closing_s=1.0)
        live = WebSocketApi(stage, probe.service, account.keyring, quotas, hosts=HOSTS)
        ports = {
            "http": stack.enter_context(served(loop, http.application, http.plain_http)),
            "websocket": stack.enter_context(served(loop, live.application, live.plain_posts)),
            "lambda": stack.enter_context(served(loop, InvokeApi(probe.service, account).application)),
        }
        yield Gateway(ports, live, probe, loop, account)


@pytest.fixture(params=KINDS)
def port(request: pytest.FixtureRequest, gateway: Gateway) -> int:
    return gateway.ports[request.param]


def exchange(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Send *data*; return all that comes back until the gateway closes."""
    with socket.create_connection(("127.0.0.1", port), AT_ONCE_S) as client:
        client.sendall(data)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while part := client.recv(65536):
                received += part
        except ConnectionResetError:  # what it had not read of ours was thrown away
            pass
        return received


def first_answer(port: int, data: bytes) -> tuple[int, bytes]:
    """Send *data*; return the status and the body of the first answer, whatever becomes of the connection."""
    with socket.create_connection(("127.0.0.1", port), AT_ONCE_S) as client:
        client.sendall(data)
        return read_answer(client)


def read_answer(client: socket.socket) -> tuple[int, bytes]:
    with http.client.HTTPResponse(client) as answer:
        answer.begin()
        return answer.status, answer.read()


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.\d (\d{3}) ", received)]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged so far, a stack included."""
    caplog.set_level(logging.INFO)
    formatter = logging.Formatter()
    return lambda: [formatter.format(record) for record in caplog.records if record.name != "asyncio"]


# ---------------------------------------------------------------- other protocols


def test_a_tls_client_is_told_at_once_and_the_log_says_which_address_to_use(port, log) -> None:
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", port), AT_ONCE_S) as client,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(client, server_hostname="localhost")
    assert [line for line in log() if "speaks TLS" in line] == [
        f"a client on port {port} speaks TLS: use http:// or ws:// there"
    ]


@pytest.mark.parametrize("record", [b"\x16", b"\x16\x03\x01", b"\x16\x03\x03\x02\x00" + b"x" * 512])
def test_the_beginning_of_a_tls_record_is_enough(port, record) -> None:
    assert exchange(port, record) == b""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="SSH"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", id="HTTP/2"),
        pytest.param(b"\x80\x2e\x01\x00\x02" + b"x" * 43, id="SSL 2"),
        pytest.param(b"*1\r\n$4\r\nPING\r\n", id="Redis"),
        pytest.param(b"\0\0\0\x08\x04\xd2\x16\x2f", id="PostgreSQL asks for TLS"),
        pytest.param(b"\0" * 40, id="zeros"),
        pytest.param(b"GETTING nowhere", id="no method"),
    ],
)
def test_another_protocol_is_answered_with_400_at_once(port, data, log) -> None:
    received = exchange(port, data)
    assert statuses(received) == [400]
    assert len([line for line in log() if "malformed" in line]) == 1


# ---------------------------------------------------------------- malformed requests


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", id="LF only"),
        pytest.param(b"GET / HTTP/1.1\nHost: x\n", id="LF only, unfinished"),
        pytest.param(b"POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}", id="LF only, a body"),
        pytest.param(b"POST / HTTP/1.1\nHost: x\nContent-Length: 8\n\n{}\r\n\r\n{}", id="LF only, CRLF in the body"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\n\r\n", id="one LF"),
        pytest.param(b"GET / HTTP/1.1\rHost: x\r\r", id="CR only"),
        pytest.param(b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", id="NUL in the target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n", id="NUL in a header"),
        pytest.param(b"GET\r\n\r\n", id="no target"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", id="no such version"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n{}", id="no length"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}", id="a length below zero"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", id="two lengths"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="a length and chunks",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="no chunk"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", id="a space after a name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", id="a folded header"),
        pytest.param(b"GET /" + b"a" * 2**21 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="an endless target"),
    ],
)
def test_a_malformed_request_is_a_400_and_one_line_of_log(port, data, log) -> None:
    assert statuses(exchange(port, data)) == [400]
    said = log()
    assert len(said) == 1
    assert "malformed" in said[0]
    assert "\n" not in said[0]


def test_a_chunk_that_is_none_in_the_middle_of_a_body_is_a_400(gateway, log) -> None:
    for kind, path in (("http", "/"), ("lambda", INVOKE)):
        with socket.create_connection(("127.0.0.1", gateway.ports[kind]), AT_ONCE_S) as client:
            client.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n".encode()
            )
            client.sendall(b"{}\r\nzz\r\n")
            assert read_answer(client)[0] == 400
    assert "Traceback" not in "".join(log())


def test_what_a_client_sent_is_not_in_the_log(port, log) -> None:
    exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nCookie: voter_id=f00d\0\r\n\r\n")
    exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nCookie voter_id=f00d\r\n\r\n")
    exchange(port, b"voter_id=f00d / HTTP/1.1\r\n\r\n")
    assert "f00d" not in "".join(log())


def test_a_client_that_breaks_off_in_the_middle_of_a_body_prints_no_stack(gateway, log) -> None:
    client = socket.create_connection(("127.0.0.1", gateway.ports["http"]), AT_ONCE_S)
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
    assert client.recv(100).startswith(b"HTTP/1.1 100")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as of a killed client
    client.close()
    assert first_answer(gateway.ports["http"], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
    assert "Traceback" not in "".join(log())


@pytest.mark.parametrize(
    "pieces", [[b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], [b"GET / HTTP/1.1\r", b"\nHost: x\r\n\r\n"]]
)
def test_an_empty_line_before_and_a_split_line_end_are_no_faults(gateway, pieces) -> None:
    with socket.create_connection(("127.0.0.1", gateway.ports["http"]), AT_ONCE_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
        assert read_answer(client)[0] == 200


# ---------------------------------------------------------------- an absolute target (RFC 9112, section 3.2.2)


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        ("http://vote.example/votes", "/votes", "", "vote.example"),
        ("HTTP://VOTE.example:8080/votes?a=1&b=2", "/votes", "a=1&b=2", "VOTE.example:8080"),
        ("https://vote.example/votes", "/votes", "", "vote.example"),
        ("http://user:pass@vote.example/a%20b", "/a b", "", "vote.example"),
        ("http://vote.example", "/", "", "vote.example"),
        ("http://vote.example?a=1", "/", "a=1", "vote.example"),
        ("http://[::1]:3000/votes", "/votes", "", "[::1]:3000"),
    ],
)
def test_an_absolute_target_is_its_path_and_its_host_replaces_the_header(gateway, target, path, query, host) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: other.example\r\nX-Kept: yes\r\n\r\n"
    status, body = first_answer(gateway.ports["http"], request.encode())
    event = json.loads(body)
    assert status == 200
    assert (event["rawPath"], event["rawQueryString"]) == (path, query)
    assert event["headers"]["host"] == event["requestContext"]["domainName"] == host
    assert event["headers"]["x-kept"] == "yes"


def test_an_absolute_target_may_have_a_body(gateway) -> None:
    head = (
        "POST http://vote.example/votes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    )
    status, body = first_answer(gateway.ports["http"], f"{head}\r\n{{}}".encode())
    assert (status, json.loads(body)["body"]) == (200, "{}")


def test_a_function_is_invoked_by_an_absolute_target(gateway) -> None:
    head = f"POST http://localhost{INVOKE} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(EVENT)}\r\n\r\n{EVENT}"
    status, body = first_answer(gateway.ports["lambda"], gateway.signed(head))
    assert (status, json.loads(json.loads(body)["body"])["body"]) == (200, "called")


@pytest.mark.parametrize("scheme", ["http", "ws", "WSS"])
def test_a_websocket_opens_by_an_absolute_target(gateway, scheme) -> None:
    head = HANDSHAKE.format(key="dGhlIHNhbXBsZSBub25jZQ==")
    request = f"GET {scheme}://live.example/live HTTP/1.1\r\nHost: x\r\n{head}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.ports["websocket"]), AT_ONCE_S) as client:
        client.sendall(request.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
    assert gateway.probe.notes("CONNECT")[-1]["requestContext"]["domainName"] == "live.example"


# ---------------------------------------------------------------- clients that close their half (RFC 9112, section 9.6)

SLOW = json.dumps({"sleep_s": 0.3})
POST = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
TO_CONNECTION = "POST /live/@connections/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}"
INVOCATION = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {{}}\r\n\r\n{{}}"
CHUNKED = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "request_", "expected"),
    [
        pytest.param("http", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", [200], id="GET"),
        pytest.param("http", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", [200], id="HEAD"),
        pytest.param("http", "GET / HTTP/1.0\r\n\r\n", [200], id="HTTP/1.0"),
        pytest.param("http", POST.format(len(SLOW), SLOW), [200], id="POST, answered later"),
        pytest.param("http", f"{CHUNKED}{len(SLOW):x}\r\n{SLOW}\r\n0\r\n\r\n", [200], id="chunks, answered later"),
        pytest.param("http", 3 * POST.format(len(SLOW), SLOW), [200, 200, 200], id="three at once"),
        pytest.param("http", 3 * "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", [200, 200, 200], id="three HEADs at once"),
        pytest.param("http", POST.format(2, "{}") + "GET /uns", [200], id="one and a half"),
        pytest.param("http", "GET http://a/ HTTP/1.1\r\nHost: x\r\n\r\n", [200], id="an absolute target"),
        pytest.param("http", POST.format(20, "{"), [400], id="half a body"),
        pytest.param("http", f"{CHUNKED}5\r\n{{", [400], id="half a chunk"),
        pytest.param("http", "GET / HTT", [], id="half a head"),
        pytest.param("http", "", [], id="nothing"),
        pytest.param("websocket", TO_CONNECTION.format(2, "{}"), [403], id="a post"),
        pytest.param("websocket", "GET /live HTTP/1.1\r\nHost: x\r\n\r\n", [426], id="no handshake"),
        pytest.param("websocket", TO_CONNECTION.format(9, "{}"), [400], id="half a post"),
        pytest.param("websocket", "POST /li", [], id="half a head of a post"),
        pytest.param("lambda", INVOCATION.format(len(EVENT), EVENT), [200], id="invoke"),
        pytest.param("lambda", INVOCATION.format(999, EVENT), [400], id="half an event"),
    ],
)
def test_a_client_that_closes_its_half_gets_its_answers(gateway, log, kind, request_, expected) -> None:
    data = gateway.signed(request_) if kind == "lambda" else request_.encode()
    assert statuses(exchange(gateway.ports[kind], data, half_close=True)) == expected
    assert "Traceback" not in "".join(log())


@pytest.mark.parametrize("query", ["", "?sleep_s=0.3"])
def test_a_websocket_whose_client_closes_its_half_is_over(gateway, query) -> None:
    head = HANDSHAKE.format(key="dGhlIHNhbXBsZSBub25jZQ==")
    exchange(
        gateway.ports["websocket"], f"GET /live{query} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode(), half_close=True
    )
    wait_for(lambda: gateway.websocket.connections == 0)


# ---------------------------------------------------------------- a page whose name points at this machine

FOREIGN = ["evil.example", "evil.example:3000", "0.0.0.0:3000", "127.0.0.1.evil.example", "localhost:3000@evil.example"]
OTHER_HOST = {"message": "The Host of this request is not served here; --allow-host NAME lists one."}


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n", id="a line's"),
        pytest.param("DELETE / HTTP/1.1\r\nHost: {host}\r\n\r\n", id="the application's"),
        pytest.param("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n", id="HTTP/1.0"),
        pytest.param("GET http://{host}/ HTTP/1.1\r\nHost: localhost\r\n\r\n", id="an absolute target"),
        pytest.param(
            "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", id="no body yet"
        ),
    ],
)
def test_no_page_of_another_name_reaches_a_function(gateway, host, request_) -> None:
    status, body = first_answer(gateway.ports["http"], request_.format(host=host).encode())
    assert (status, json.loads(body)) == (421, OTHER_HOST)


@pytest.mark.parametrize("host", FOREIGN)
def test_no_page_of_another_name_subscribes(gateway, host) -> None:
    head = HANDSHAKE.format(key="dGhlIHNhbXBsZSBub25jZQ==")
    connects = len(gateway.probe.notes("CONNECT"))
    request = f"GET /live HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{head}\r\n"
    status, body = first_answer(gateway.ports["websocket"], request.encode())
    assert (status, json.loads(body)) == (421, OTHER_HOST)
    assert len(gateway.probe.notes("CONNECT")) == connects


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:3000", "[::1]:3000", "127.0.0.2", "vote.example:8443"])
def test_loopback_and_listed_names_are_served(gateway, host) -> None:
    assert first_answer(gateway.ports["http"], f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0] == 200
