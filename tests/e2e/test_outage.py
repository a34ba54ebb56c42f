"""A store that is stopped or frozen under the running system, and what comes back by itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psutil
import psycopg
import pytest
from redis import Redis

from tests.e2e.subscriber import Subscriber
from tests.e2e.voter import cast, votes
from tests.stack import PATIENCE, Stack, wait_for

VOTE_BOUND_S = 2.5  # the design says about 2 s
ANSWER_BOUND_S = 6.0


@contextmanager
def stopped(stack: Stack, name: str) -> Iterator[None]:
    """Stop a store by the command line, and start it again; nothing else is started again meanwhile."""
    others = {p for p in psutil.Process(stack.pid).children() if p.pid != stack.store_pid(name)}
    done = stack.local("--stop-store", name)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        done = stack.local("--start-store", name)
    assert done.returncode == 0, done.stderr
    assert all(process.is_running() for process in others)


@contextmanager
def frozen(stack: Stack, name: str) -> Iterator[None]:
    """Let a store's processes stand still: its sockets stay open and nothing answers."""
    server = psutil.Process(stack.store_pid(name))
    server.suspend()  # first, so that it starts no more
    family = [server, *server.children(recursive=True)]
    for process in family[1:]:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(family):
            process.resume()


def timed(call: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


def wait_until_well(http: httpx.Client) -> None:
    wait_for(lambda: http.get("/health").status_code == 200, "a good health")
    assert http.get("/health").json()["status"] == "ok"


def assert_not_recorded(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "not_recorded"
    assert int(answer.headers["retry-after"]) >= 1


def assert_not_taken(answer: httpx.Response) -> None:
    """Where the vote was sent and nothing came back, only the store knows."""
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] in {"not_recorded", "not_confirmed"}
    assert int(answer.headers["retry-after"]) >= 1


def test_votes_are_accepted_and_kept_while_postgres_is_stopped(
    fresh: Stack, http: httpx.Client, subscribe: Callable[[], Subscriber]
) -> None:
    subscriber = subscribe()
    cast(http, "a")
    before = subscriber.total(1)
    with stopped(fresh, "postgres"):
        for _ in range(10):
            cast(http, "b")
        health = http.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "unavailable"
        assert (health.json()["redis"], health.json()["postgres"]) == ("ok", "unreachable")
        told = subscriber.until(lambda frame: "stale_seconds" in frame, "a frame that tells of the age")
        assert votes(told) == {"a": 1, "b": 0}
        assert subscriber.ask('{"action": "ping"}')["stale_seconds"] >= 5
        stale = wait_for(lambda: (now := fresh.results()).get("stale_seconds") and now, "results with their age")
        assert votes(stale) == {"a": 1, "b": 0}
        assert stale["version"] == before["version"]
        assert http.get("/results").status_code == 200
    wait_until_well(http)
    assert votes(subscriber.total(11)) == {"a": 1, "b": 10}
    assert "stale_seconds" not in subscriber.frames[-1]
    assert subscriber.ask('{"action": "ping"}') == {"type": "pong"}
    assert wait_for(lambda: (now := fresh.results())["total"] == 11 and now, "all votes")
    assert "stale_seconds" not in fresh.results()


def test_order_of_one_voters_votes_outlasts_an_outage(http: httpx.Client, fresh: Stack) -> None:
    assert http.post("/api/votes", json={"vote": "a"}).status_code == 202
    with stopped(fresh, "postgres"):
        for choice in "babab":
            assert http.post("/api/votes", json={"vote": choice}).status_code == 202
    wait_for(lambda: votes(fresh.results()) == {"a": 0, "b": 1}, "the last choice")


def test_votes_are_refused_in_time_while_redis_is_stopped(
    fresh: Stack, http: httpx.Client, subscribe: Callable[[], Subscriber], say: Callable[[str], None]
) -> None:
    subscriber = subscribe()
    cast(http, "a")
    subscriber.total(1)
    with stopped(fresh, "redis"):
        for _ in range(3):
            answer, took_s = timed(lambda: http.post("/api/votes", json={"vote": "b"}))
            assert_not_recorded(answer)
            assert took_s < VOTE_BOUND_S * PATIENCE
        page = http.post("/", data={"vote": "b"}, headers={"accept": "text/html"})
        assert page.status_code == 503
        assert "not recorded" in page.text
        results = fresh.results()
        assert votes(results) == {"a": 1, "b": 0}
        health = http.get("/health")
        assert health.status_code == 503
        assert health.json() == {
            "status": "unavailable",
            "redis": "unreachable",
            "postgres": "ok",
            "counting": "unknown",
        }
    say(f"without Redis a vote was refused after {took_s * 1000:.0f} ms")
    wait_until_well(http)
    cast(http, "a")
    assert votes(subscriber.total(2)) == {"a": 2, "b": 0}


def test_votes_are_refused_in_time_while_redis_is_frozen(
    fresh: Stack, http: httpx.Client, database: psycopg.Connection, say: Callable[[str], None]
) -> None:
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote")
    with frozen(fresh, "redis"):
        answer, vote_s = timed(lambda: http.post("/api/votes", json={"vote": "b"}))
        assert_not_taken(answer)
        again, _ = timed(lambda: http.post("/api/votes", json={"vote": "b"}))
        assert_not_taken(again)
        health, health_s = timed(lambda: http.get("/health"))
        assert (health.status_code, health.json()["redis"]) == (503, "unreachable")
        results, results_s = timed(lambda: http.get("/api/results"))
        assert (results.status_code, votes(results.json())) == (200, {"a": 1, "b": 0})
    say(f"frozen Redis: vote {vote_s:.1f} s, health {health_s:.1f} s, results {results_s:.1f} s")
    assert vote_s < VOTE_BOUND_S * PATIENCE
    assert max(health_s, results_s) < ANSWER_BOUND_S * PATIENCE
    wait_until_well(http)
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 2, "the next vote")
    # Those that were refused must not have landed after all, now that Redis has read what waited in its sockets.
    assert database.execute("SELECT count(*) FROM votes WHERE vote = 'b'").fetchone() == (0,)


def test_everything_answers_in_time_while_postgres_is_frozen(
    fresh: Stack, http: httpx.Client, redis: Redis, say: Callable[[str], None]
) -> None:
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote")
    wait_until_well(http)  # from here on the function keeps a connection, which will stand still with its server
    slowest_s = 0.0

    def stale() -> httpx.Response | None:
        nonlocal slowest_s
        answer, took_s = timed(lambda: http.get("/api/results"))
        slowest_s = max(slowest_s, took_s)
        assert answer.status_code == 200, f"{answer.text} after {took_s:.1f} s"
        return answer if "stale_seconds" in answer.json() else None

    with frozen(fresh, "postgres"):
        for _ in range(3):
            cast(http, "b")
        assert votes(wait_for(stale, "results with their age").json()) == {"a": 1, "b": 0}
        assert redis.llen("votes") + redis.llen("{votes}:processing") == 3
        health, health_s = timed(lambda: http.get("/health"))
        assert (health.status_code, health.json()["postgres"]) == (503, "unreachable")
    say(f"frozen Postgres: health {health_s:.1f} s, slowest results {slowest_s:.1f} s")
    assert max(health_s, slowest_s) < ANSWER_BOUND_S * PATIENCE
    wait_until_well(http)
    wait_for(lambda: votes(fresh.results()) == {"a": 1, "b": 3}, "the votes that waited")


def test_health_answers_in_time_while_postgres_is_frozen(
    fresh: Stack, http: httpx.Client, say: Callable[[str], None]
) -> None:
    wait_until_well(http)
    with frozen(fresh, "postgres"):
        health, health_s = timed(lambda: http.get("/health"))
        assert (health.status_code, health.json()["postgres"]) == (503, "unreachable")
    say(f"frozen Postgres, with a connection that was kept: health {health_s:.1f} s")
    assert health_s < ANSWER_BOUND_S * PATIENCE
    wait_until_well(http)


def test_stores_that_are_killed_come_back_by_themselves(fresh: Stack, http: httpx.Client) -> None:
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote")
    for name in ("redis", "postgres"):
        psutil.Process(fresh.store_pid(name)).kill()
    wait_for(lambda: http.get("/health").status_code == 503, "the health to tell")
    wait_until_well(http)
    cast(http, "b")
    wait_for(lambda: votes(fresh.results()) == {"a": 1, "b": 1}, "both votes")


@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),  # as a failed-over primary: read-only
    ],
    ids=["out of memory", "read-only"],
)
def test_redis_that_takes_no_writes_refuses_votes_and_heals(
    fresh: Stack, http: httpx.Client, redis: Redis, refuse: tuple[str, ...], allow: tuple[str, ...]
) -> None:
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote")
    redis.execute_command(*refuse)
    try:
        answer, took_s = timed(lambda: http.post("/api/votes", json={"vote": "b"}))
        assert_not_recorded(answer)
        assert took_s < VOTE_BOUND_S * PATIENCE
        assert votes(fresh.results()) == {"a": 1, "b": 0}
    finally:
        redis.execute_command(*allow)
    cast(http, "a")
    wait_for(lambda: votes(fresh.results()) == {"a": 2, "b": 0}, "the next vote")
