"""The function result as API Gateway invokes it: covers results_page and response."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator

import psycopg
import pytest
from redis import Redis

from functions.result import app
from tests.unit.http_function import HttpFunction, Reply
from voting.results.snapshot import SNAPSHOT, Snapshots
from voting.settings import Settings
from voting.tally import Tally

NOWHERE = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://127.0.0.1:1/postgres"}


@pytest.fixture
def result(
    settings: Settings, redis: Redis, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HttpFunction]:
    assert redis.ping()
    assert not database.closed
    function = HttpFunction(app)
    function.configure(
        monkeypatch, {name: settings.env[name] for name in ("REDIS_URL", "DATABASE_URL", "WEBSOCKET_URL")}
    )
    yield function
    function.forget()


def bars(page: Reply) -> list[tuple[str, str]]:
    return re.findall(r'<rect id="bar-." x="([^"]+)" width="([^"]+)"', page.body)


# ---------------------------------------------------------------- Figures


def test_figures_are_those_of_the_snapshot(result: HttpFunction, redis: Redis) -> None:
    Snapshots(redis).write(Tally(17, {"a": 1, "b": 2, "gone": 40}))
    assert result("get-results").json == {
        "version": 17,
        "total": 3,
        "options": [
            {"id": "a", "label": "Cats", "votes": 1, "percent": 33.3},
            {"id": "b", "label": "Dogs", "votes": 2, "percent": 66.7},
        ],
    }


def test_page_shows_right_figures_before_any_script_runs(result: HttpFunction, redis: Redis) -> None:
    Snapshots(redis).write(Tally(17, {"a": 1, "b": 2000}))
    page = result("get-results-page")
    assert page.status == 200
    assert bars(page) == [("0%", "0.0%"), ("0.0%", "100.0%")]
    assert '<span id="votes-b">2,000</span> <span id="noun-b">votes</span>' in page.body
    assert '<span id="votes-a">1</span> <span id="noun-a">vote</span>' in page.body
    assert '<b id="total">2,001</b>' in page.body
    assert 'data-leader="b"' in page.body
    assert 'data-websocket="ws://127.0.0.1:3001/live"' in page.body
    assert "<title>1 : 2,000 · Cats or Dogs?</title>" in page.body
    assert '<noscript><meta http-equiv="refresh"' in page.body


def test_no_votes_yet_are_zeros_and_a_neutral_picture(result: HttpFunction) -> None:
    assert result("get-results").json["options"] == [
        {"id": "a", "label": "Cats", "votes": 0, "percent": 0.0},
        {"id": "b", "label": "Dogs", "votes": 0, "percent": 0.0},
    ]
    page = result("get-results-page")
    assert bars(page) == [("0%", "0.0%"), ("0.0%", "0.0%")]
    assert 'data-standing="empty" data-leader=""' in page.body
    assert "NaN" not in page.body


def test_a_tie_has_no_leader(result: HttpFunction, redis: Redis) -> None:
    Snapshots(redis).write(Tally(1, {"a": 4, "b": 4}))
    assert 'data-standing="tie" data-leader=""' in result("get-results-page").body


def leads(page: Reply) -> dict[str, str]:
    return dict(re.findall(r'data-option="(.)" data-leads="(\w+)"', page.body))


@pytest.mark.parametrize(
    ("counts", "standing", "leader", "first"),
    [
        ({}, "empty", "", ""),
        ({"b": 4, "c": 3}, "ahead", "b", "b"),
        ({"a": 4, "b": 1, "c": 4}, "tie", "", "ac"),
        ({"a": 4, "b": 4, "c": 4}, "tie", "", "abc"),
        ({"a": 1, "d": 9}, "ahead", "a", "a"),
    ],
)
def test_of_three_those_with_the_most_votes_lead(
    result: HttpFunction,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    counts: dict[str, int],
    standing: str,
    leader: str,
    first: str,
) -> None:
    monkeypatch.setenv("OPTIONS", "Thai|Pizza|Salad")
    Snapshots(redis).write(Tally(1, counts))
    page = result("get-results-page")
    assert f'data-standing="{standing}" data-leader="{leader}"' in page.body
    assert leads(page) == {choice: str(choice in first).lower() for choice in "abc"}


def test_the_shares_of_three_fill_one_bar_and_each_has_its_own(
    result: HttpFunction, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIONS", "Thai|Pizza|Salad")
    monkeypatch.setenv("QUESTION", "Lunch & dinner?")
    Snapshots(redis).write(Tally(1, {"a": 1, "b": 1, "c": 1}))
    page = result("get-results-page")
    assert bars(page) == [("0%", "33.4%"), ("33.4%", "33.3%"), ("66.7%", "33.3%")]
    assert re.findall(r'<rect id="own-(.)" width="([^"]+)"', page.body) == [
        ("a", "33.4%"),
        ("b", "33.3%"),
        ("c", "33.3%"),
    ]
    assert "<title>3 votes · Lunch &amp; dinner?</title>" in page.body
    assert 'data-question="Lunch &amp; dinner?"' in page.body
    assert result("get-results").json["question"] == "Lunch & dinner?"


def test_labels_are_escaped(result: HttpFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTION_A", '"><img src=x onerror=alert(1)></script>')
    page = result("get-results-page")
    assert "<img" not in page.body
    assert page.body.count("</script>") == 1


# ---------------------------------------------------------------- Caching


@pytest.mark.parametrize("name", ["get-results", "get-results-page"])
def test_results_are_shared_for_a_second_and_set_no_cookie(result: HttpFunction, redis: Redis, name: str) -> None:
    Snapshots(redis).write(Tally(1, {"a": 1}))
    reply = result(name, cookies=["voter_id=x", "other=y"])
    assert reply.headers["Cache-Control"] == "public, max-age=1"
    assert reply.set_cookies == []
    assert result(name).headers["ETag"] == reply.headers["ETag"]


@pytest.mark.parametrize("name", ["get-results", "get-results-page"])
def test_etag_changes_with_all_that_is_shown(
    result: HttpFunction, redis: Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tag() -> str:
        return result(name).headers["ETag"]

    Snapshots(redis).write(Tally(1, {"a": 1}))
    tags = [tag()]
    Snapshots(redis).write(Tally(2, {"a": 2}))
    tags.append(tag())
    monkeypatch.setenv("OPTION_A", "Birds")
    result.forget()
    tags.append(tag())
    monkeypatch.setenv("DATABASE_URL", NOWHERE["DATABASE_URL"])
    result.forget()
    redis.hincrby(SNAPSHOT, "at", -60_000)
    tags.append(tag())
    assert len(set(tags)) == 4


@pytest.mark.parametrize("name", ["get-results", "get-results-page"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '"x",W/{} , "y"', "*"])
def test_a_client_that_has_it_gets_304(result: HttpFunction, redis: Redis, name: str, form: str) -> None:
    Snapshots(redis).write(Tally(1, {"a": 1}))
    fresh = result(name)
    reply = result(name, headers={"if-none-match": form.format(fresh.headers["ETag"])})
    assert (reply.status, reply.body) == (304, "")
    for header in ("ETag", "Cache-Control", "Content-Security-Policy"):
        assert reply.headers[header] == fresh.headers[header]
    assert "Content-Type" not in reply.headers
    assert result(name, headers={"if-none-match": '"other"'}).status == 200


@pytest.mark.parametrize("name", ["get-results", "get-results-page", "get-health"])
def test_head_mirrors_get_without_its_body(result: HttpFunction, redis: Redis, name: str) -> None:
    Snapshots(redis).write(Tally(1, {"a": 1}))
    get, head = result(name), result(name, method="HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, "")


def test_page_may_talk_to_the_websocket_and_to_nothing_else(result: HttpFunction) -> None:
    policy = result("get-results-page").headers["Content-Security-Policy"]
    assert "connect-src 'self' ws://127.0.0.1:3001;" in policy
    assert "frame-ancestors 'none'" in policy


# ---------------------------------------------------------------- When stores are away


def test_without_postgres_the_last_figures_are_marked_with_their_age(
    result: HttpFunction, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", NOWHERE["DATABASE_URL"])
    Snapshots(redis).write(Tally(3, {"a": 2}))
    redis.hincrby(SNAPSHOT, "at", -600_000)
    assert result("get-results").json["stale_seconds"] >= 600
    assert '<span id="age">10 min</span>' in result("get-results-page").body


def test_without_both_stores_there_are_no_figures(result: HttpFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    reply = result("get-results")
    assert (reply.status, reply.code) == (503, "results_unavailable")
    page = result("get-results-page")
    assert page.status == 503
    assert page.headers["Content-Type"].startswith("text/html")
    for answer in (reply, page):
        assert answer.headers["Retry-After"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert "127.0.0.1" not in answer.body


# ---------------------------------------------------------------- Health


def test_health_is_ok_while_both_stores_answer(result: HttpFunction) -> None:
    reply = result("get-health")
    assert (reply.status, reply.json) == (200, {"status": "ok", "redis": "ok", "postgres": "ok", "counting": "ok"})
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "part"),
    [("REDIS_URL", {"redis": "unreachable", "counting": "unknown"}), ("DATABASE_URL", {"postgres": "unreachable"})],
)
def test_health_names_the_part_that_failed(
    result: HttpFunction, monkeypatch: pytest.MonkeyPatch, name: str, part: dict[str, str]
) -> None:
    monkeypatch.setenv(name, NOWHERE[name])
    reply = result("get-health")
    assert reply.status == 503
    assert reply.json == {"status": "unavailable", "redis": "ok", "postgres": "ok", "counting": "ok"} | part


def test_health_does_not_wait_for_stores_that_are_silent(result: HttpFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        port = silent.getsockname()[1]
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
        monkeypatch.setenv("DATABASE_URL", f"postgresql://127.0.0.1:{port}/postgres")
        started = time.monotonic()
        reply = result("get-health")
        assert time.monotonic() - started < 6
    assert reply.json == {
        "status": "unavailable",
        "redis": "unreachable",
        "postgres": "unreachable",
        "counting": "unknown",
    }


def test_health_gives_up_a_kept_connection_whose_server_is_frozen(result: HttpFunction) -> None:
    result("get-health")
    backend = app.clients().postgres().info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        started = time.monotonic()
        reply = result("get-health")
        assert time.monotonic() - started < 6
    finally:
        os.kill(backend, signal.SIGCONT)
    assert reply.json["postgres"] == "ok"  # over a new connection
