"""What `GET /health` says: whether a vote would be taken, and whether those that wait are counted."""

from collections.abc import Iterator

import psycopg
import pytest
from redis import Redis

from voting.clients import Clients
from voting.ops.health import Health, check_health
from voting.queue.queue_view import HANDED_BACK, PROCESSING, PROGRESS, VOTES
from voting.settings import Settings

USER = "health-of-a-test"


@pytest.fixture
def health(redis: Redis, database: psycopg.Connection, clients: Clients):
    assert not database.closed
    return lambda: check_health(clients)


def fall_behind(redis: Redis, seconds: float) -> None:
    now_s, microseconds = redis.time()
    redis.set(PROGRESS, int((now_s - seconds) * 1000 + microseconds / 1000))


def test_nothing_waits_and_all_is_well(health, redis: Redis) -> None:
    fall_behind(redis, 3600)  # the worker stands still, and nobody votes
    assert health() == Health("ok", "ok", "ok")
    assert redis.keys() == [PROGRESS.encode()]  # what it tried is gone again


@pytest.mark.parametrize("where", [VOTES, PROCESSING])
def test_votes_that_wait_and_are_not_counted_are_a_stall_with_its_seconds(health, redis: Redis, where: str) -> None:
    redis.lpush(where, "a vote")
    fall_behind(redis, 14)
    assert health().document()["counting"] == "ok"
    fall_behind(redis, 40)
    document = health().document()
    assert document | {"stalled_seconds": 40} == {
        "status": "unavailable",
        "redis": "ok",
        "postgres": "ok",
        "counting": "stalled",
        "stalled_seconds": 40,
    }
    assert document["stalled_seconds"] in {40, 41}


@pytest.mark.parametrize("value", ["later", "abc", ""])
def test_a_time_of_progress_that_says_nothing_hides_no_stall(health, redis: Redis, value: str) -> None:
    redis.lpush(VOTES, "a vote")
    redis.set(PROGRESS, (redis.time()[0] + 3600) * 1000 if value == "later" else value)  # the clock was set back
    assert health().counting == "stalled"


def test_what_another_worker_drains_is_handed_back_and_well(health, redis: Redis) -> None:
    redis.lpush(VOTES, "a vote")
    fall_behind(redis, 600)
    redis.set(HANDED_BACK, 1)
    assert health() == Health("ok", "ok", "handed_back", 0)
    assert health().is_well


def test_votes_of_before_the_first_run_are_no_stall(health, redis: Redis) -> None:
    redis.lpush(VOTES, "a vote")
    assert health().counting == "ok"


@pytest.fixture
def tight(redis: Redis) -> Iterator[None]:
    """Memory is full."""
    redis.set("filler", "x" * 1_000_000)
    redis.config_set("maxmemory", "500000")
    yield
    redis.config_set("maxmemory", "0")


def test_a_full_memory_refuses_votes(health, tight: None) -> None:
    assert health().redis == "refused"
    assert not health().is_well


def test_a_primary_without_the_replicas_that_it_must_have_refuses_votes(health, redis: Redis) -> None:
    redis.config_set("min-replicas-to-write", "1")
    try:
        assert health().redis == "refused"
    finally:
        redis.config_set("min-replicas-to-write", "0")
    assert health().redis == "ok"


def test_a_replica_refuses_votes(health, redis: Redis) -> None:
    redis.replicaof("127.0.0.1", "1")
    try:
        assert health().redis == "refused"
    finally:
        redis.replicaof("NO", "ONE")


@pytest.mark.parametrize("lacking", ["lpush", "eval", "del"])
def test_a_user_without_a_right_refuses_votes(redis: Redis, redis_url: str, settings: Settings, lacking: str) -> None:
    redis.execute_command("ACL", "SETUSER", USER, "reset", "on", ">secret", "~*", "+@all", f"-{lacking}", "-evalsha")
    address = redis_url.rpartition("@")[2]
    clients = Clients(Settings({**settings.env, "REDIS_URL": f"redis://{USER}:secret@{address}"}), redis_retries=0)
    try:
        assert check_health(clients).redis == "refused"
    finally:
        clients.close()
        redis.execute_command("ACL", "DELUSER", USER)


def test_a_key_of_another_type_takes_no_vote(health, redis: Redis) -> None:
    redis.set(VOTES, "something else")
    assert health().redis == "refused"
