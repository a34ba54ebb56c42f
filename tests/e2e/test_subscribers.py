"""The WebSocket API as subscribers see it, with the `websockets` library."""

import contextlib
import json
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.e2e.subscriber import Subscriber
from tests.e2e.voter import cast, votes
from tests.stack import Stack, wait_for

KIB = 1024
BURST = 1000
Subscribe = Callable[[], Subscriber]


def registered(redis: Redis) -> int:
    return sum(redis.zcard(key) for key in redis.keys("{votes}:subscribers:*"))


@pytest.fixture
def nobody(redis: Redis) -> None:
    """Wait until the subscribers of earlier tests are forgotten."""
    wait_for(lambda: registered(redis) == 0, "an empty registry")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("junk", "invalid_json"),
        ("", "invalid_json"),
        ("[" * 5000, "invalid_json"),
        ("null", "missing_action"),
        ("[1]", "missing_action"),
        ("{}", "missing_action"),
        ('{"action": 1}', "missing_action"),
        ('{"action": "dance"}', "unknown_action"),
        ('{"action": "$disconnect"}', "unknown_action"),
        (b"\x00\xff", "binary_frame"),
        (b'{"action": "ping"}', "binary_frame"),
    ],
)
def test_frame_that_asks_for_nothing_gets_a_typed_error_and_the_socket_stays_open(
    subscribe: Subscribe, frame: str | bytes, code: str
) -> None:
    subscriber = subscribe()
    error = subscriber.ask(frame)
    assert (error["type"], error["code"]) == ("error", code)
    assert error["message"]
    assert subscriber.ask('{"action": "ping"}') == {"type": "pong"}


def test_ping_without_a_subscription_is_answered(fresh: Stack) -> None:
    with Subscriber(fresh.websocket) as subscriber:
        assert subscriber.ask('{"action": "ping"}') == {"type": "pong"}


@pytest.mark.usefixtures("nobody")
def test_subscribing_twice_registers_once_and_answers_twice(
    http: httpx.Client, redis: Redis, subscribe: Subscribe
) -> None:
    subscriber = subscribe()
    subscriber.send("subscribe")
    subscriber.until(lambda _: True, "a second snapshot")
    assert registered(redis) == 1
    cast(http, "b")
    assert votes(subscriber.total(1)) == {"a": 0, "b": 1}


def test_frame_of_results_says_what_the_interface_says(http: httpx.Client, fresh: Stack, subscribe: Subscribe) -> None:
    subscriber = subscribe()
    for choice in "aab":
        cast(http, choice)
    frame = subscriber.total(3)
    assert frame == {
        "type": "results",
        "version": frame["version"],
        "total": 3,
        "options": [
            {"id": "a", "label": "Cats", "votes": 2, "percent": 66.7},
            {"id": "b", "label": "Dogs", "votes": 1, "percent": 33.3},
        ],
        "ping_s": 20,
    }
    shared = {name: frame[name] for name in ("version", "total", "options")}
    wait_for(lambda: fresh.results() == shared, "the same over HTTP")


def test_a_flooder_is_told_why_and_closed_while_the_others_go_on(
    http: httpx.Client, fresh: Stack, subscribe: Subscribe
) -> None:
    """2,000 frames as fast as they are taken."""
    honest = subscribe()
    codes = []
    with connect(fresh.websocket, proxy=None, max_queue=None) as flooder:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(2000):
                flooder.send('{"action": "ping"}')
        with contextlib.suppress(ConnectionClosed):
            while True:
                codes.append(json.loads(flooder.recv(timeout=20)).get("code"))
        assert flooder.close_code == 1000
    assert codes.count("too_many_frames") == 1
    assert len(codes) < 100
    assert honest.ask('{"action": "ping"}') == {"type": "pong"}
    cast(http, "b")
    assert votes(honest.total(1)) == {"a": 0, "b": 1}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_forbidden_origin_is_refused_at_the_handshake(fresh: Stack, origin: str) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(fresh.websocket, origin=origin, proxy=None),  # type: ignore[arg-type] # a NewType of str
    ):
        pass
    assert refused.value.response.status_code == 403


def test_our_own_page_may_connect(fresh: Stack) -> None:
    with connect(fresh.websocket, origin=fresh.http, proxy=None) as ours:  # type: ignore[arg-type] # a NewType of str
        ours.send('{"action": "ping"}')
        assert json.loads(ours.recv(timeout=20)) == {"type": "pong"}


@pytest.mark.parametrize(
    "message",
    [
        "x" * (32 * KIB + 1),
        ["x" * (30 * KIB)] * 5,  # frames of a message of 150 KB
    ],
    ids=["frame", "message"],
)
def test_what_is_too_big_closes_with_1009(fresh: Stack, message: str | list[str]) -> None:
    with connect(fresh.websocket, proxy=None) as client:

        def send() -> None:
            client.send(message)
            client.recv(timeout=20)  # the close may come now, or while the rest was still being sent

        with pytest.raises(ConnectionClosed) as closed:
            send()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_frame_of_the_greatest_size_is_answered(subscribe: Subscribe) -> None:
    frame = json.dumps({"action": "ping", "padding": ""})
    frame = frame.replace('""', f'"{"x" * (32 * KIB - len(frame))}"')
    assert len(frame) == 32 * KIB
    assert subscribe().ask(frame) == {"type": "pong"}


def test_thousand_votes_in_a_second_are_far_fewer_frames_and_the_last_equals_the_table(
    redis: Redis, database: psycopg.Connection, subscribe: Subscribe, say: Callable[[str], None]
) -> None:
    subscriber = subscribe()
    frames_before = len(subscriber.frames)
    began = time.monotonic()
    for number in range(BURST):
        redis.lpush("votes", json.dumps({"vote": "ab"[number % 3 == 0], "voter_id": f"burst-{number}"}))
        time.sleep(max(0.0, began + (number + 1) / BURST - time.monotonic()))  # their pace, not a wait
    took_s = time.monotonic() - began
    last = subscriber.total(BURST)
    frames = len(subscriber.frames) - frames_before
    say(f"{BURST} votes in {took_s:.1f} s came as {frames} frames")
    assert 1 <= frames <= BURST / 10
    assert votes(last) == dict(database.execute("SELECT vote, count(*) FROM votes GROUP BY vote").fetchall())


def test_subscriber_that_does_not_read_delays_nobody(
    fresh: Stack, http: httpx.Client, subscribe: Subscribe, say: Callable[[str], None]
) -> None:
    address = urlsplit(fresh.websocket)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that the kernel gives
        deaf.connect((address.hostname, address.port))
        deaf.sendall(
            f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b" 101 " in deaf.recv(64)
        # An empty mask leaves the payload as it is; from here on nothing is read.
        frame = b'{"action": "subscribe"}'
        deaf.sendall(bytes([0x81, 0x80 | len(frame), 0, 0, 0, 0]) + frame)
        others = [subscribe() for _ in range(5)]
        slowest_s = 0.0
        for total in range(1, 21):
            cast(http, "a")
            began = time.monotonic()
            for other in others:
                other.total(total)
            slowest_s = max(slowest_s, time.monotonic() - began)
    say(f"beside one that does not read, the slowest of 5 had its frame after {slowest_s * 1000:.0f} ms")
    assert slowest_s < 5


def test_version_only_grows_also_over_truncate(
    fresh: Stack, http: httpx.Client, database: psycopg.Connection, subscribe: Subscribe
) -> None:
    subscriber = subscribe()
    for total in (1, 2, 3):
        cast(http, "a")
        subscriber.total(total)
    greatest = max(subscriber.versions())
    database.execute("TRUNCATE votes")
    emptied = subscriber.total(0)
    assert emptied["version"] > greatest
    cast(http, "b")
    assert subscriber.total(1)["version"] > emptied["version"]
    wait_for(lambda: fresh.results()["version"] >= max(subscriber.versions()), "the results of the last frame")


def test_edits_by_hand_reach_a_subscriber_within_a_second(
    database: psycopg.Connection, subscribe: Subscribe, say: Callable[[str], None]
) -> None:
    subscriber = subscribe()
    edits = {
        "INSERT INTO votes SELECT 'hand-' || n, 'a' FROM generate_series(1, 10) AS n": {"a": 10, "b": 0},
        "UPDATE votes SET vote = 'b' WHERE id IN ('hand-1', 'hand-2', 'hand-3')": {"a": 7, "b": 3},
        "DELETE FROM votes WHERE vote = 'a' AND id <> 'hand-4'": {"a": 1, "b": 3},
        "UPDATE votes SET vote = 'no such option' WHERE id = 'hand-1'": {"a": 1, "b": 2},
        "TRUNCATE votes": {"a": 0, "b": 0},
    }
    took_s = []
    for statement, counts in edits.items():
        database.execute(statement)
        began = time.monotonic()
        subscriber.until(lambda frame, counts=counts: votes(frame) == counts, f"{counts} after {statement}")
        took_s.append(time.monotonic() - began)
    say(f"edits by hand reached the subscriber after {', '.join(f'{s * 1000:.0f}' for s in took_s)} ms")
    assert sorted(took_s)[len(took_s) // 2] < 1.0  # the median, so that one hiccup of the machine fails nothing


@pytest.mark.usefixtures("nobody")
def test_client_that_leaves_is_forgotten_and_the_others_are_not(
    fresh: Stack, http: httpx.Client, redis: Redis, subscribe: Subscribe
) -> None:
    staying = subscribe()
    with Subscriber(fresh.websocket) as leaving:
        leaving.send("subscribe")
        leaving.until(lambda _: True, "the first snapshot")
        assert registered(redis) == 2
    wait_for(lambda: registered(redis) == 1, "the registry to forget who left")
    cast(http, "a")
    staying.total(1)


@pytest.mark.usefixtures("nobody")
def test_client_that_vanishes_without_a_close_is_forgotten(fresh: Stack, http: httpx.Client, redis: Redis) -> None:
    with Subscriber(fresh.websocket) as vanishing:
        vanishing.send("subscribe")
        vanishing.until(lambda _: True, "the first snapshot")
        vanishing.socket.socket.shutdown(socket.SHUT_RDWR)
        cast(http, "a")
        wait_for(lambda: registered(redis) == 0, "the registry to forget who vanished")


@pytest.mark.usefixtures("nobody")
def test_lost_registration_is_healed_by_a_ping(http: httpx.Client, redis: Redis, subscribe: Subscribe) -> None:
    lost = subscribe()
    redis.delete(*redis.keys("{votes}:subscribers:*"))
    other = subscribe()
    cast(http, "a")
    other.total(1)
    assert lost.ask('{"action": "ping"}') == {"type": "pong"}
    assert registered(redis) == 2
    cast(http, "a")
    lost.total(2)
    other.total(2)
