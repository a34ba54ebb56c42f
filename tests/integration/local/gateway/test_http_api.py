"""The HTTP API: covers http_api, http_event, event and integration."""

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from local.gateway.http_api import HttpApi
from local.gateway.quotas import HttpQuotas
from local.template.resources import HttpRoute
from tests.integration.local.gateway.apis import Loop, Probe, probing, served, wait_for

ROUTES = [
    HttpRoute("GET", "/", Probe.name),
    HttpRoute("POST", "/api/votes", Probe.name),
    HttpRoute("ANY", "/any", Probe.name),
    HttpRoute("POST", "/crowded", "Crowded"),
    HttpRoute("GET", "/missing-function", "Missing"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Loop, Probe]]:
    with probing(tmp_path_factory.mktemp("probe")) as (loop, probe, _):
        yield loop, probe


@pytest.fixture(scope="module", params=["plain", "application"])
def client(world: tuple[Loop, Probe], request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """An API that takes all routes: behind the plain protocol, and by the application alone."""
    loop, probe = world
    api = HttpApi("HttpApi", [*ROUTES, HttpRoute("ANY", "$default", Probe.name)], probe.service)
    with (
        served(loop, api.application, api.plain_http if request.param == "plain" else None) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def strict(world: tuple[Loop, Probe]) -> Iterator[httpx.Client]:
    """An API without $default, with a small quota on bodies."""
    with serving(world, HttpQuotas(body_bytes=100_000)) as client:
        yield client


@contextmanager
def serving(world: tuple[Loop, Probe], quotas: HttpQuotas) -> Iterator[httpx.Client]:
    loop, probe = world
    api = HttpApi("HttpApi", ROUTES, probe.service, quotas)
    with (
        served(loop, api.application, api.plain_http) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        yield client


def raw(client: httpx.Client, request: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 10) as sock:
        sock.sendall(request)
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
    return received


def returned(client: httpx.Client, answer: Any) -> httpx.Response:
    return client.post("/api/votes", json={"return": answer})


def test_event_is_what_aws_sends(client: httpx.Client) -> None:
    response = client.post(
        "/api/votes?b=2&a=1&b=x%20y&c=",
        content=b'{"vote": "a"}',
        headers=[
            ("Content-Type", "application/json"),
            ("Cookie", "voter_id=abc; voter_sig=d=e"),
            ("X-Twice", "1"),
            ("X-Twice", "2"),
            ("User-Agent", "probe/1"),
        ],
    )
    event = response.json()
    headers, context = event["headers"], event["requestContext"]
    assert event["version"] == "2.0"
    assert event["routeKey"] == context["routeKey"] == "POST /api/votes"
    assert event["rawPath"] == "/api/votes"
    assert event["rawQueryString"] == "b=2&a=1&b=x%20y&c="
    assert event["queryStringParameters"] == {"a": "1", "b": "2,x y", "c": ""}
    assert event["cookies"] == ["voter_id=abc", "voter_sig=d=e"]
    assert "cookie" not in headers
    assert headers["x-twice"] == "1,2"
    assert headers["content-length"] == "13"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-port"] == str(client.base_url.port)
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    assert (event["body"], event["isBase64Encoded"]) == ('{"vote": "a"}', False)
    assert context["http"] == {
        "method": "POST",
        "path": "/api/votes",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "probe/1",
    }
    assert context["requestId"] == response.headers["apigw-requestid"]
    assert (context["stage"], context["apiId"], context["accountId"]) == ("$default", "HttpApi", "123456789012")
    assert context["domainName"] == headers["host"]
    assert isinstance(context["timeEpoch"], int)
    assert context["time"].endswith(" +0000")
    assert "pathParameters" not in event


def test_event_of_a_bare_get_leaves_out_what_is_empty(client: httpx.Client) -> None:
    event = client.get("/").json()
    assert not {"body", "cookies", "queryStringParameters", "pathParameters"} & set(event)
    assert event["rawQueryString"] == ""
    assert event["headers"]["content-length"] == "0"


def test_forged_forwarding_headers_do_not_replace_ours(client: httpx.Client) -> None:
    forged = {"X-Forwarded-For": "10.1.1.1", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
    event = client.get("/", headers=forged).json()
    assert event["headers"]["x-forwarded-for"] == "10.1.1.1, 127.0.0.1"
    assert event["headers"]["x-forwarded-proto"] == "http"
    assert event["headers"]["x-forwarded-port"] == str(client.base_url.port)
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("content_type", "encoded"),
    [
        ("text/plain", False),
        ("application/json; charset=utf-8", False),
        ("Application/JSON", False),
        ("application/vnd.api+json", False),
        ("application/x-www-form-urlencoded", True),
        ("multipart/form-data; boundary=x", True),
        ("application/octet-stream", True),
    ],
)
def test_textual_bodies_stay_text_and_others_become_base64(
    client: httpx.Client, content_type: str, encoded: bool
) -> None:
    event = client.post("/api/votes", content=b"vote=a", headers={"Content-Type": content_type}).json()
    assert event["isBase64Encoded"] is encoded
    assert (base64.b64decode(event["body"]) if encoded else event["body"].encode()) == b"vote=a"


def test_body_without_a_type_or_not_utf8_or_compressed_loses_nothing(client: httpx.Client) -> None:
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}):
        event = client.post("/api/votes", content=b"\x1f\x8b\xff", headers=headers).json()
        assert event["isBase64Encoded"] is True
        assert base64.b64decode(event["body"]) == b"\x1f\x8b\xff"


def test_chunked_body_arrives_whole(client: httpx.Client) -> None:
    event = client.post("/api/votes", content=iter([b"one", b"two"]), headers={"Content-Type": "text/plain"}).json()
    assert event["body"] == "onetwo"
    assert event["headers"]["content-length"] == "6"
    assert "transfer-encoding" not in event["headers"]


def test_client_that_expects_100_continue_is_told_to_go_on(client: httpx.Client) -> None:
    request = (
        b"POST /any HTTP/1.1\r\nHost: [::1]\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 10) as sock:
        sock.sendall(request)
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue")
        sock.sendall(b"{}")
        assert sock.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("method", "path", "route_key"),
    [
        ("GET", "/", "GET /"),
        ("DELETE", "/any", "ANY /any"),
        ("GET", "/api/votes", "$default"),
        ("POST", "/api/votes/", "$default"),
        ("OPTIONS", "/", "$default"),
        ("POST", "/API/votes", "$default"),
        ("POST", "/api%2Fvotes", "POST /api/votes"),
    ],
)
def test_routes_match_method_and_path_exactly(client: httpx.Client, method: str, path: str, route_key: str) -> None:
    assert client.request(method, path).json()["routeKey"] == route_key


def test_doubled_slash_is_another_path_and_not_a_host(client: httpx.Client) -> None:
    answer = raw(
        client, b"POST //api/votes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    event = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (event["routeKey"], event["rawPath"]) == ("$default", "//api/votes")


def test_path_is_decoded_and_the_query_is_not(client: httpx.Client) -> None:
    event = client.get("/caf%C3%A9/a%20b?q=a%20b+c").json()
    assert event["rawPath"] == "/café/a b"
    assert event["rawQueryString"] == "q=a%20b+c"
    assert event["queryStringParameters"] == {"q": "a b c"}


def test_head_has_the_headers_and_no_body(client: httpx.Client) -> None:
    response = client.head("/any")
    assert response.status_code == 200
    assert int(response.headers["content-length"]) > 0
    assert response.content == b""


def test_response_carries_status_headers_and_every_cookie(client: httpx.Client) -> None:
    answer = {
        "statusCode": 303,
        "headers": {"Location": "/", "X-Number": 5, "X-Flag": True},
        "cookies": ["voter_id=abc; Path=/", "voter_sig=def; HttpOnly"],
        "body": "see other",
    }
    response = returned(client, answer)
    assert response.status_code == 303
    assert response.headers["location"] == "/"
    assert (response.headers["x-number"], response.headers["x-flag"]) == ("5", "true")
    assert response.headers.get_list("set-cookie") == ["voter_id=abc; Path=/", "voter_sig=def; HttpOnly"]
    assert response.headers["content-type"] == "text/plain;charset=UTF-8"
    assert response.text == "see other"
    assert "server" not in response.headers
    assert len(response.headers["apigw-requestid"]) == 16


def request_of(body: str, *lines: str) -> bytes:
    head = ["POST /any HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, *lines, "", body]).encode()


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_leaves_its_socket_in_step(client: httpx.Client, status: int) -> None:
    bodiless = request_of(json.dumps({"return": {"statusCode": status, "body": "not sent"}}))
    received = raw(client, bodiless + request_of(json.dumps({"return": "sent"}), "Connection: close"))
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [str(status).encode(), b"200"]
    assert b"not sent" not in received
    assert received.endswith(b"\r\n\r\nsent")


def test_requests_sent_at_once_are_answered_in_their_order(client: httpx.Client) -> None:
    wishes = [{"sleep_s": 0.2, "return": "first"}, {"return": "second"}, {"return": "third"}]
    last = request_of(json.dumps({"return": "last"}), "Connection: close")
    received = raw(client, b"".join(request_of(json.dumps(wish)) for wish in wishes) + last)
    assert re.findall(rb"\r\n\r\n([a-z]+)", received) == [b"first", b"second", b"third", b"last"]


def test_a_request_may_come_in_pieces(client: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 10) as sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request_of('{"return": "whole"}', "Connection: close"):
            sock.sendall(bytes([byte]))
        assert stream.read().endswith(b"\r\n\r\nwhole")


def test_an_idle_socket_is_hung_up_when_the_gateway_stops(world: tuple[Loop, Probe]) -> None:
    with serving(world, HttpQuotas()) as client:
        sock = socket.create_connection(("127.0.0.1", client.base_url.port or 0), 10)
        sock.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 404 ")
    assert sock.recv(1) == b""
    sock.close()


def test_base64_body_is_decoded(client: httpx.Client) -> None:
    response = returned(client, {"statusCode": 200, "isBase64Encoded": True, "body": "AP8="})
    assert response.content == b"\x00\xff"


@pytest.mark.parametrize(
    ("answer", "body"),
    [({"message": "hi"}, '{"message": "hi"}'), ("hello", "hello"), ([1, 2], "[1, 2]"), (None, "null")],
)
def test_answer_without_a_status_is_a_200_in_json(client: httpx.Client, answer: Any, body: str) -> None:
    response = returned(client, answer)
    assert (response.status_code, response.text) == (200, body)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"statusCode": "many"}, "statusCode"),
        ({"statusCode": 99}, "statusCode"),
        ({"statusCode": True}, "statusCode"),
        ({"statusCode": 200, "body": {"a": 1}}, "body is dict"),
        ({"statusCode": 200, "headers": ["a"]}, "headers is not an object"),
        ({"statusCode": 200, "headers": {"a": ["b"]}}, "the header a"),
        ({"statusCode": 200, "headers": {"a": "b\r\nc: d"}}, "line break"),
        ({"statusCode": 200, "headers": {"a b": "c"}}, "not a header name"),
        ({"statusCode": 200, "cookies": "a=b"}, "cookies"),
        ({"statusCode": 200, "isBase64Encoded": True, "body": "?"}, "Base64"),
        ({"statusCode": 200, "isBase64Encoded": "yes", "body": ""}, "isBase64Encoded"),
    ],
)
def test_malformed_response_is_a_500_and_the_log_says_what_was_wrong(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, answer: Any, fault: str
) -> None:
    with caplog.at_level("INFO", "local.http"):
        response = returned(client, answer)
    assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})
    assert any(fault in record.getMessage() for record in caplog.records)


def test_function_that_raises_is_a_500(client: httpx.Client) -> None:
    response = client.post("/api/votes", json={"raise": "secret detail"})
    assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})


def test_unknown_route_is_a_404(strict: httpx.Client) -> None:
    for method, path in (("GET", "/api/votes"), ("POST", "/"), ("GET", "/api/votes/")):
        response = strict.request(method, path)
        assert (response.status_code, response.json()) == (404, {"message": "Not Found"})


def test_slow_function_is_a_503_when_the_gateway_loses_patience(world: tuple[Loop, Probe]) -> None:
    with serving(world, HttpQuotas(integration_timeout_s=0.2)) as client:
        response = client.post("/api/votes", json={"sleep_s": 1})
    assert (response.status_code, response.json()) == (503, {"message": "Service Unavailable"})


def test_throttled_function_is_a_503(strict: httpx.Client) -> None:
    response = strict.post("/crowded")
    assert (response.status_code, response.json()) == (503, {"message": "Service Unavailable"})


def test_route_to_no_function_is_a_500(strict: httpx.Client) -> None:
    assert strict.get("/missing-function").status_code == 500


def test_body_over_the_quota_is_a_413_with_and_without_a_length(strict: httpx.Client) -> None:
    for content in (bytes(100_001), iter([bytes(60_000), bytes(60_000)])):
        response = strict.post("/api/votes", content=content)
        assert (response.status_code, response.json()) == (413, {"message": "Request Entity Too Large"})
    assert strict.post("/api/votes", content=b"{}" + b" " * 99_998).status_code == 200


def test_body_that_lambda_would_not_take_is_a_413(client: httpx.Client) -> None:
    response = client.post("/api/votes", content=bytes(6 * 1024 * 1024))
    assert (response.status_code, response.json()) == (413, {"message": "Request Entity Too Large"})


def test_header_block_over_the_quota_is_a_431(client: httpx.Client) -> None:
    assert client.get("/", headers={"X-Long": "x" * 9_000}).status_code == 200
    for headers in ({"X-Long": "x" * 10_240}, {f"X-{n}": "x" * 100 for n in range(200)}):
        assert client.get("/", headers=headers).status_code == 431
    assert client.get("/?" + "q" * 10_240).status_code == 431


def test_log_has_one_line_per_refusal_and_no_cookie(strict: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "local.http"):
        strict.get("/missing?secret=1", headers={"Cookie": "voter_id=secret"})
        strict.get("/")
    lines = [record.getMessage() for record in caplog.records if record.name == "local.http"]
    assert len(lines) == 1
    assert lines[0].startswith("GET /missing 404 ")
    assert "secret" not in lines[0]


def test_target_without_a_path_is_answered_and_not_dropped(client: httpx.Client) -> None:
    for target in (b"*", b"http://localhost/any"):
        answer = raw(client, b"OPTIONS " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404", b"HTTP/1.1 400"))


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "application"])
def test_api_reports_whether_a_client_waits_for_an_answer(world: tuple[Loop, Probe], is_plain: bool) -> None:
    loop, probe = world
    api = HttpApi("HttpApi", ROUTES, probe.service)
    with (
        served(loop, api.application, api.plain_http if is_plain else None) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
        ThreadPoolExecutor(1) as other,
    ):
        assert not api.is_answering
        answer = other.submit(client.post, "/api/votes", json={"sleep_s": 1})
        wait_for(lambda: api.is_answering)
        assert answer.result().status_code == 200
        assert client.get("/nowhere").status_code == 404  # refused by the gateway itself
        wait_for(lambda: not api.is_answering)
