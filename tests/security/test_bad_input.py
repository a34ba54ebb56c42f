"""Bad input is bounded in size, in what it costs, and in what it leaves in the logs."""

import json
import math
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.conftest import Handler, event
from tests.property.conftest import Worker
from tests.security.conftest import Function
from voting.settings import Settings

Log = Callable[[], list[dict[str, Any]]]
FLOOD = 400


def lines_allowed(began: float) -> int:
    """One at once, and one a second."""
    return 1 + math.ceil(time.monotonic() - began)


@pytest.fixture
def worker(settings: Settings, redis: Redis, database: psycopg.Connection, log: Log):
    """A run of the worker whose log is ours."""
    worker = Worker(settings, redis)
    worker.start()
    yield worker
    worker.stop()


def test_a_flood_of_refusals_is_a_line_and_a_metric_a_second_with_their_number(
    vote: Function, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> list[dict[str, Any]]:
        return [line for line in log() if line["message"] == "refused"]

    began = time.monotonic()
    for _ in range(FLOOD):
        assert vote(body=b"{").code == "invalid_json"
    allowed = lines_allowed(began)
    metrics = [line for line in capsys.readouterr().out.splitlines() if "RequestsRefused" in line]
    assert 1 <= len(refused()) == len(metrics) <= allowed
    before, sent = len(refused()), 0
    while len(refused()) == before:  # the next second's line
        assert vote(body=b"{").status == 400
        assert time.monotonic() - began < 20
        sent += 1
    assert sum(line["count"] for line in refused()) == FLOOD + sent


def test_each_code_is_told_at_once_though_another_floods(vote: Function, log: Log) -> None:
    for _ in range(20):
        vote(body=b"{")
    vote(body=b"")
    vote(headers={"sec-fetch-site": "cross-site"})
    assert {line["code"] for line in log()} == {"invalid_json", "empty_body", "cross_site"}


def test_a_redis_that_is_away_does_not_flood_the_log_with_stacks(
    function: Callable[[str], Function], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    vote = function("vote")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    began = time.monotonic()
    for _ in range(50):
        assert vote().code == "not_recorded"
    assert 1 <= len([line for line in log() if line["message"] == "unavailable"]) <= lines_allowed(began)


def test_a_flood_of_foreign_handshakes_is_a_line_a_second_and_tells_little_of_their_text(
    ws_connect: Handler, context, log: Log
) -> None:
    connect = event("websocket-connect")
    connect["headers"]["Origin"] = f"https://{'evil' * 2000}"
    began = time.monotonic()
    for _ in range(FLOOD):
        assert ws_connect(connect, context) == {"statusCode": 403}
    assert 1 <= len(log()) <= lines_allowed(began)
    assert max(len(line["origin"]) for line in log()) <= 100


def test_a_flood_of_junk_in_the_list_is_a_line_a_second_and_reason(worker: Worker, redis: Redis, log: Log) -> None:
    began = time.monotonic()
    for _ in range(40):
        redis.lpush("votes", *[b"junk"] * 30, *[b"\xff"] * 3)
        worker.drained()
    parked = [line for line in log() if line["message"] == "parked invalid messages"]
    assert {line["reason"] for line in parked} == {"not_json", "not_utf8"}
    assert len(parked) <= 2 * lines_allowed(began)
    assert redis.llen("{votes}:dead") == worker.counted.parked == 40 * 33


@pytest.mark.parametrize(("size", "status"), [(16_384, 400), (16_385, 413), (1_000_000, 413)])
def test_a_body_over_the_limit_is_refused_before_it_is_parsed(vote: Function, size: int, status: int) -> None:
    assert vote(body=b"[" * size).status == status


def test_the_worst_that_fits_into_a_request_costs_little(vote: Function) -> None:
    """Deep nesting, many fields, many digits, many cookies, escapes: each is answered in a fraction of a second."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    worst: list[tuple[bytes, dict[str, str]]] = [
        (b"[" * 16_000, {}),
        (b'{"a":' * 3_000, {}),
        (b'{"vote": ' + b"9" * 16_000 + b"}", {}),
        (json.dumps({"vote": "\\" * 8_000}).encode(), {}),
        (b"&" * 16_000, form),
        (b"vote=" + b"%61" * 5_000, form),
        (b"\xff" * 16_000, {"content-type": "application/json; charset=idna"}),
    ]
    cookies = [f"voter_{kind}={'a' * 32}" for kind in ("id", "sig") for _ in range(100)]
    for body, headers in worst:
        began = time.monotonic()
        assert vote(body=body, headers=dict(headers), cookies=cookies).status in {400, 415}
        assert time.monotonic() - began < 1.0


def test_a_forged_address_changes_nothing(vote: Function, queued: Callable[[], list[str]], redis: Redis) -> None:
    voter = vote().cookies
    for address in ("127.0.0.1", "203.0.113.7, 10.0.0.1", "' OR 1=1", "x" * 5_000, "::1", ""):
        reply = vote(cookies=voter, headers={"x-forwarded-for": address, "forwarded": f"for={address}"})
        assert (reply.status, reply.set_cookies[0].partition(";")[0]) == (202, f"voter_id={voter['voter_id']}")
    assert set(queued()) == {voter["voter_id"]}
