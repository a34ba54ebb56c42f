"""Every event of events/ through `sam local invoke`: the answer and what it did to the stores."""

import json
import threading
import time

import psycopg
import pytest
from redis import Redis

from tests.conftest import event
from tests.management_api import ManagementApi
from voting.connections import BUCKETS, Subscribers
from voting.results import Tally
from voting.snapshot import Snapshots
from voting.tally import VoteTable
from voting.vote import Vote, parse
from voting.vote_queue import FENCE, VOTES

CONNECTION = event("websocket-subscribe")["requestContext"]["connectionId"]


@pytest.mark.parametrize("name", ["http-post-json", "http-post-form"])
def test_a_vote_is_queued(invoke, redis: Redis, name: str) -> None:
    answer = invoke("VoteFunction", name)
    assert answer["statusCode"] == (202 if name == "http-post-json" else 303)
    (message,) = redis.lrange(VOTES, 0, -1)
    assert f"voter_id={parse(message).voter_id};" in " ".join(answer["cookies"])


@pytest.mark.parametrize(
    ("name", "status"),
    [("http-get-vote-page", 200), ("http-head-vote-page", 200), ("http-options", 204), ("http-get-unknown", 404)],
)
def test_the_vote_function_answers_the_rest(invoke, redis: Redis, name: str, status: int) -> None:
    assert invoke("VoteFunction", name)["statusCode"] == status
    assert redis.llen(VOTES) == 0


@pytest.mark.parametrize("name", ["http-get-results", "http-get-results-page"])
def test_the_results_are_those_of_the_table(invoke, redis: Redis, database: psycopg.Connection, name: str) -> None:
    table = VoteTable(database)
    table.install()
    table.record([Vote("a", "x"), Vote("b", "y"), Vote("b", "z")], table.take_fence())
    answer = invoke("ResultFunction", name)
    assert answer["statusCode"] == 200
    assert "66.7" in answer["body"]


def test_health_asks_both_stores(invoke, redis: Redis, database: psycopg.Connection) -> None:
    answer = invoke("ResultFunction", "http-get-health")
    assert json.loads(answer["body"]) == {"status": "ok", "redis": "ok", "postgres": "ok"}


def test_the_worker_drains_until_a_newer_run_takes_over(invoke, redis: Redis, database: psycopg.Connection) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode(), b"junk", Vote("b", "x").encode())
    answers = []
    run = threading.Thread(target=lambda: answers.append(invoke("WorkerFunction", "schedule")))
    run.start()
    deadline = time.monotonic() + 60
    rows: list[tuple[str, str]] = []
    while rows != [("x", "b")]:
        assert time.monotonic() < deadline
        assert run.is_alive() or answers
        try:
            rows = database.execute("SELECT id, vote FROM votes").fetchall()
        except psycopg.errors.UndefinedTable:
            continue  # not installed yet
    redis.set(FENCE, VoteTable(database).take_fence())
    run.join()
    assert {name: answers[0][name] for name in ("stored", "changed", "parked", "superseded")} == {
        "stored": 2,
        "changed": 1,
        "parked": 1,
        "superseded": True,
    }


@pytest.mark.parametrize("name", ["websocket-connect", "websocket-disconnect"])
def test_connections_come_and_go(invoke, redis: Redis, name: str) -> None:
    Subscribers(redis).add(CONNECTION)
    assert invoke("WsConnectFunction", name) == {"statusCode": 200}
    assert (Subscribers(redis).of(range(BUCKETS)) == []) is (name == "websocket-disconnect")


@pytest.mark.parametrize(("name", "kind"), [("websocket-subscribe", "results"), ("websocket-ping", "pong")])
def test_frames_are_answered(invoke, redis: Redis, management_api: ManagementApi, name: str, kind: str) -> None:
    management_api.frames.clear()
    Snapshots(redis).write(Tally(5, {"a": 3}))
    assert invoke("WsConnectFunction", name) == {"statusCode": 200}
    assert [json.loads(frame)["type"] for frame in management_api.frames[CONNECTION]] == [kind]
    assert Subscribers(redis).of(range(BUCKETS)) == [CONNECTION]


def test_a_broadcast_posts_the_snapshot(invoke, redis: Redis, management_api: ManagementApi) -> None:
    management_api.frames.clear()
    Subscribers(redis).add("c=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    assert invoke("WsBroadcastFunction", "broadcast") == {"sent": 1, "gone": 0, "failed": 0}
    assert json.loads(management_api.frames["c="][0])["total"] == 3
