"""Each function in a container of its own, by `sam local invoke`: the answer and what it did to the stores.

The function vote has its turn in test_sam_local.py.
"""

import json
from typing import Any

import psycopg
from redis import Redis

from tests.conftest import event
from tests.management_api import ManagementApi
from tests.sam.worker_run import drained
from voting.broadcast.subscribers import Subscribers
from voting.database.vote_table import VoteTable
from voting.queue.queue_view import VOTES
from voting.results.snapshot import Snapshots
from voting.tally import Tally
from voting.vote import Vote


def test_the_worker_drains_until_a_newer_run_takes_over(invoke, redis: Redis, database: psycopg.Connection) -> None:
    assert drained(invoke, redis, database) == {"stored": 2, "changed": 1, "parked": 1, "superseded": True}


def test_health_asks_both_stores(invoke, redis: Redis, database: psycopg.Connection) -> None:
    answer = invoke("ResultFunction", "http-get-health")
    assert json.loads(answer["body"]) == {"status": "ok", "redis": "ok", "postgres": "ok", "counting": "ok"}


def test_a_subscriber_gets_the_results(
    invoke, redis: Redis, database: psycopg.Connection, management_api: ManagementApi
) -> None:
    management_api.frames.clear()
    table = VoteTable(database)  # a snapshot would be too old by the time that the container is up
    table.install()
    table.record([Vote("a", "x"), Vote("a", "y"), Vote("b", "z")], table.take_fence())
    assert invoke("WsConnectFunction", "websocket-subscribe") == {"statusCode": 200}
    connection = event("websocket-subscribe")["requestContext"]["connectionId"]
    assert [json.loads(frame)["total"] for frame in management_api.frames[connection]] == [3]


def test_a_broadcast_posts_the_snapshot(invoke, redis: Redis, management_api: ManagementApi) -> None:
    management_api.frames.clear()
    Subscribers(redis).add("c=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    assert invoke("WsBroadcastFunction", "broadcast") == {"sent": 1, "gone": 0, "failed": 0}
    assert json.loads(management_api.frames["c="][0])["total"] == 3


def test_an_operator_sees_the_state(invoke, redis: Redis, database: psycopg.Connection) -> None:
    redis.lpush(VOTES, b"waiting")
    answer: dict[str, Any] = invoke("OpsFunction", "ops-status")
    assert (answer["ok"], answer["queue"]["waiting"]) == (True, 1)
