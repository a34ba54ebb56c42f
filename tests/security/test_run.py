"""The running system from outside: its doors, its limits, and what it leaves for others on the machine to read."""

import json
import socket
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest
import redis as redis_client
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from tests.stack import Stack


def test_only_the_owner_may_read_the_addresses_and_the_secrets(stack: Stack) -> None:
    for name in ("run.json", "secrets.json"):
        assert (stack.state_dir / name).stat().st_mode & 0o777 == 0o600, name


def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    family = [psutil.Process(stack.pid), *psutil.Process(stack.pid).children(recursive=True)]
    listening = {
        connection.laddr
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    ports = {urlsplit(url).port for url in (stack.http, stack.websocket, stack.lambda_, stack.redis, stack.postgres)}
    assert ports <= {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("login", ["", "default:@", "default:wrong@", ":postgres@"])
def test_redis_asks_for_its_password(stack: Stack, login: str) -> None:
    url = urlsplit(stack.redis)
    stranger = redis_client.Redis.from_url(f"redis://{login}127.0.0.1:{url.port}/0")
    with stranger as redis, pytest.raises(redis_client.AuthenticationError):
        redis.ping()


@pytest.mark.parametrize("login", ["postgres", "postgres:wrong", "postgres:postgres"])
def test_postgres_asks_for_its_password(stack: Stack, login: str) -> None:
    url = urlsplit(stack.postgres)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://{login}@127.0.0.1:{url.port}/postgres", connect_timeout=5)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[::1", "http://127.0.0.1.evil.example"])
def test_a_foreign_page_is_refused_at_the_handshake(stack: Stack, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(stack.websocket, proxy=None, origin=origin)  # type: ignore[arg-type] # any text
    assert refused.value.response.status_code == 403


def test_our_own_page_and_a_program_may_subscribe(stack: Stack) -> None:
    for origin in (stack.http, None):
        with connect(stack.websocket, proxy=None, origin=origin) as socket:  # type: ignore[arg-type]
            socket.send('{"action": "ping"}')
            assert json.loads(socket.recv(timeout=20)) == {"type": "pong"}


@pytest.mark.parametrize("frames", [[40 * 1024], [30 * 1024] * 5], ids=["a frame", "a message"])
def test_a_frame_over_32_and_a_message_over_128_kb_close_the_socket(stack: Stack, frames: list[int]) -> None:
    with connect(stack.websocket, proxy=None) as socket:
        socket.send(["x" * size for size in frames] if len(frames) > 1 else "x" * frames[0])
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(("size", "by_us"), [(17_000, True), (11 * 1024 * 1024, False)])
def test_a_body_over_the_limit_is_refused_by_us_or_by_the_gateway(stack: Stack, size: int, by_us: bool) -> None:
    answer = httpx.post(f"{stack.http}/api/votes", content=b"x" * size, trust_env=False, timeout=30)
    assert answer.status_code == 413
    assert ("error" in answer.json()) == by_us


def test_headers_over_ten_kilobytes_are_refused_by_the_gateway(stack: Stack) -> None:
    assert httpx.get(stack.http, headers={"Cookie": "x" * 11_000}, trust_env=False).status_code == 431


def test_posting_to_subscribers_needs_a_signature(stack: Stack) -> None:
    url = stack.websocket.replace("ws://", "http://")
    assert httpx.post(f"{url}/@connections/x", content=b"{}", trust_env=False).status_code == 403


@pytest.mark.parametrize(
    "junk", [b"\x00\xff\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"POST / HTTP/1.1\r\nHost: \xff\r\n\r\n"]
)
def test_junk_on_the_wire_leaves_the_next_voter_alone(stack: Stack, junk: bytes) -> None:
    url = urlsplit(stack.http)
    with socket.create_connection((str(url.hostname), url.port or 0), timeout=20) as wire:
        wire.sendall(junk)
        assert b"Traceback" not in wire.recv(65_536)
    assert httpx.post(f"{stack.http}/api/votes", json={"vote": "a"}, trust_env=False).status_code == 202
