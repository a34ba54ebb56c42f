"""Every event of events/ through `sam local start-lambda` and boto3: the answer and what it did to the stores."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.conftest import ROOT, event
from tests.management_api import ManagementApi
from tests.sam.worker_run import drained
from voting.broadcast.subscribers import BUCKETS, Subscribers
from voting.database.vote_table import VoteTable
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import DEAD, HANDED_BACK, PROCESSING, VOTES
from voting.results.snapshot import Snapshots
from voting.tally import Tally
from voting.vote import Vote, parse

CONNECTION = event("websocket-subscribe")["requestContext"]["connectionId"]
FUNCTIONS = {
    "http-get-health": "ResultFunction",
    "http-get-results": "ResultFunction",
    "http-get-results-page": "ResultFunction",
    "http": "VoteFunction",
    "schedule": "WorkerFunction",
    "websocket": "WsConnectFunction",
    "broadcast": "WsBroadcastFunction",
    "ops": "OpsFunction",
}


ELSEWHERE = {"codedeploy-hook"}  # its answer goes to CodeDeploy: tests/integration/ops/test_smoke.py


@pytest.fixture(scope="module")
def sent() -> set[str]:
    """The events that went through."""
    return set()


@pytest.fixture
def send(warm: Callable[[str, str], Any], sent: set[str]) -> Callable[[str], Any]:
    """Invoke the function that an event is for; the parsed answer."""

    def send(name: str) -> Any:
        function = FUNCTIONS.get(name) or FUNCTIONS[name.partition("-")[0]]
        answer = warm(function, name)
        sent.add(name)
        return answer

    return send


@pytest.fixture
def table(database: psycopg.Connection) -> VoteTable:
    table = VoteTable(database)
    table.install()
    return table


# ---------------------------------------------------------------- HTTP


@pytest.mark.parametrize(("name", "status"), [("http-post-json", 202), ("http-post-form", 303)])
def test_a_vote_is_queued(send, redis: Redis, name: str, status: int) -> None:
    answer = send(name)
    assert answer["statusCode"] == status
    (message,) = redis.lrange(VOTES, 0, -1)
    assert f"voter_id={parse(message).voter_id};" in " ".join(answer["cookies"])


@pytest.mark.parametrize(
    ("name", "status"),
    [("http-get-vote-page", 200), ("http-head-vote-page", 200), ("http-options", 204), ("http-get-unknown", 404)],
)
def test_the_vote_function_answers_the_rest(send, redis: Redis, name: str, status: int) -> None:
    assert send(name)["statusCode"] == status
    assert redis.llen(VOTES) == 0


@pytest.mark.parametrize("name", ["http-get-results", "http-get-results-page"])
def test_the_results_are_those_of_the_table(send, redis: Redis, table: VoteTable, name: str) -> None:
    table.record([Vote("a", "x"), Vote("b", "y"), Vote("b", "z")], table.take_fence())
    answer = send(name)
    assert answer["statusCode"] == 200
    assert "66.7" in answer["body"]


def test_health_asks_both_stores(send, redis: Redis, database: psycopg.Connection) -> None:
    assert json.loads(send("http-get-health")["body"]) == {
        "status": "ok",
        "redis": "ok",
        "postgres": "ok",
        "counting": "ok",
    }


# ---------------------------------------------------------------- Schedule, WebSocket, broadcast


def test_the_worker_drains_until_a_newer_run_takes_over(send, redis: Redis, database: psycopg.Connection) -> None:
    counted = drained(lambda _, name: send(name), redis, database)
    assert counted == {"stored": 2, "changed": 1, "parked": 1, "superseded": True}


@pytest.mark.parametrize("name", ["websocket-connect", "websocket-disconnect"])
def test_connections_come_and_go(send, redis: Redis, name: str) -> None:
    Subscribers(redis).add(CONNECTION)
    assert send(name) == {"statusCode": 200}
    assert (Subscribers(redis).of(range(BUCKETS)) == []) is (name == "websocket-disconnect")


# The connection is not registered: a ping registers it, and brings it the results too.
@pytest.mark.parametrize(
    ("name", "kinds"), [("websocket-subscribe", ["results"]), ("websocket-ping", ["pong", "results"])]
)
def test_frames_are_answered(send, redis: Redis, management_api: ManagementApi, name: str, kinds: list[str]) -> None:
    management_api.frames.clear()
    Snapshots(redis).write(Tally(5, {"a": 3}))
    assert send(name) == {"statusCode": 200}
    assert [json.loads(frame)["type"] for frame in management_api.frames[CONNECTION]] == kinds
    assert Subscribers(redis).of(range(BUCKETS)) == [CONNECTION]


def test_a_broadcast_posts_the_snapshot(send, redis: Redis, management_api: ManagementApi) -> None:
    management_api.frames.clear()
    Subscribers(redis).add("c=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    assert send("broadcast") == {"sent": 1, "gone": 0, "failed": 0}
    assert json.loads(management_api.frames["c="][0])["total"] == 3


# ---------------------------------------------------------------- Operations


def test_the_state_is_shown(send, redis: Redis, table: VoteTable) -> None:
    redis.lpush(VOTES, b"1", b"2")
    answer = send("ops-status")
    assert (answer["ok"], answer["queue"]["waiting"], answer["tally"]["counts"]) == (True, 2, {})


def test_dead_letters_are_listed_by_reason(send, redis: Redis) -> None:
    redis.rpush(DEAD, DeadLetter("not_json", b"junk").encode(), DeadLetter("not_utf8", b"\xff").encode())
    assert [letter["payload"] for letter in send("ops-dead-list")["letters"]] == ["junk"]
    assert redis.llen(DEAD) == 2


def test_dead_letters_that_are_votes_go_back_to_the_list(send, redis: Redis, table: VoteTable) -> None:
    vote = Vote("a", "x").encode()
    redis.rpush(DEAD, DeadLetter("refused_by_database", vote).encode())
    assert send("ops-dead-requeue")["requeued"] == 1
    assert (redis.lrange(VOTES, 0, -1), redis.exists(DEAD)) == ([vote], 0)


def test_dead_letters_of_the_reason_are_dropped(send, redis: Redis) -> None:
    redis.rpush(DEAD, DeadLetter("not_json", b"junk").encode(), DeadLetter("not_utf8", b"\xff").encode())
    assert send("ops-dead-drop")["dropped"] == 1
    assert [DeadLetter.decode(letter).reason for letter in redis.lrange(DEAD, 0, -1)] == ["not_utf8"]


def test_a_wrong_tally_is_repaired(send, redis: Redis, table: VoteTable, database: psycopg.Connection) -> None:
    table.record([Vote("a", "x")], table.take_fence())
    database.execute("UPDATE voting.vote_tally SET votes = 40")
    assert send("ops-tally-verify")["repaired"] is True
    assert table.tally().counts == {"a": 1}


def test_the_draining_is_handed_back_and_taken_over(send, redis: Redis, table: VoteTable) -> None:
    redis.lpush(PROCESSING, b"claimed")
    assert send("ops-handback")["returned"] == 1
    assert (redis.lrange(VOTES, 0, -1), redis.exists(HANDED_BACK)) == ([b"claimed"], 1)
    assert send("ops-takeover")["changed"] is True
    assert redis.exists(HANDED_BACK) == 0


def test_what_the_database_lacks_is_installed(send, redis: Redis, database: psycopg.Connection) -> None:
    answer = send("ops-install")
    assert (answer["ok"], answer["installed"]) == (True, True)
    assert VoteTable(database).follows()


def test_the_contracts_indexes_are_built(send, redis: Redis, table: VoteTable, database: psycopg.Connection) -> None:
    database.execute("DROP INDEX idx_votes_vote")
    assert send("ops-indexes")["ok"] is True
    assert database.execute("SELECT to_regclass('idx_votes_vote') IS NOT NULL").fetchone() == (True,)


def test_stores_are_inspected_before_a_switch(send, redis: Redis, table: VoteTable) -> None:
    redis.set(VOTES, "precious")
    answer = send("ops-preflight")
    assert answer["ok"] is True
    assert any("string" in problem for problem in answer["problems"])
    assert redis.get(VOTES) == b"precious"


# ---------------------------------------------------------------- All of them


def test_no_event_was_left_out(request: pytest.FixtureRequest, sent: set[str]) -> None:
    if len(request.session.items) == 1:  # asked for alone: there is nothing to add up
        assert sent == set()
        return
    assert sent == {path.stem for path in (ROOT / "events").glob("*.json")} - ELSEWHERE
