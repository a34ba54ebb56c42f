"""A Redis whose memory is full refuses votes, and drains, announces and is looked after all the same."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from tests.conftest import event
from tests.integration.worker.test_publisher import Lambda, invoke_api, lambda_, publishing  # noqa: F401 - fixtures
from tests.redis_server import serving
from tests.stack import wait_for
from voting.broadcast.frame_counts import FrameCounts
from voting.broadcast.subscribers import BUCKETS, Subscribers, bucket_of
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.ops.list_watch import watch
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import DEAD, HANDED_BACK, PROCESSING, VOTES
from voting.queue.vote_queue import QueueUnavailable, VoteQueue
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.tally import Tally
from voting.vote import Vote
from voting.worker.drain import STOP_BEFORE_END_S, Counted, Drain

MEMORY = 8 * 1024 * 1024
SERVERS = ["valkey", "redis"]  # Valkey 9 and Redis 7.0


@pytest.fixture(params=SERVERS)
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with serving(request.param, f"--maxmemory {MEMORY}", "--maxmemory-policy noeviction") as url:
        yield url


@pytest.fixture
def queue(clients: Clients) -> VoteQueue:
    return VoteQueue(clients.redis())


def fill(redis: Redis, key: str, *values: bytes) -> None:
    """Push *values* to *key*, over and over, until there is no room."""
    with contextlib.suppress(OutOfMemoryError):
        while True:
            redis.lpush(key, *values)


def fill_up(redis: Redis) -> None:
    """Leave no room at all, by a key that is not ours."""
    for size in (100_000, 1000, 10):
        fill(redis, "foreign", b"x" * size)


def fill_with_votes(redis: Redis) -> dict[str, str]:
    """Push votes of many voters until there is no room; return each one's last choice."""
    last: dict[str, str] = {}
    try:
        for number in range(10**9):
            votes = [Vote("ab"[(number + i) % 3 % 2], f"voter{(number * 100 + i) % 9000}") for i in range(100)]
            redis.lpush(VOTES, *(vote.encode() for vote in votes))
            last |= {vote.voter_id: vote.choice for vote in votes}
    except OutOfMemoryError:
        fill(redis, "foreign", b"x")  # the last bytes
    return last


def drain(settings: Settings, until: Callable[[], object]) -> Counted:
    clients = Clients(settings, redis_retries=0)
    give_up = threading.Event()
    timer = threading.Timer(60, give_up.set)
    timer.start()
    try:
        return Drain(clients, lambda: 0.0 if until() or give_up.is_set() else STOP_BEFORE_END_S + 1, lambda: None).run()
    finally:
        timer.cancel()
        clients.close()


def test_a_backlog_that_fills_the_memory_is_drained_to_its_end(redis, database, settings, handler, context) -> None:
    last = fill_with_votes(redis)
    waiting = redis.llen(VOTES)
    cast: dict[str, Any] = event("http-post-json")
    refused = handler("vote")(cast, context)
    assert (refused["statusCode"], json.loads(refused["body"])["error"]["code"]) == (503, "not_recorded")
    counted = drain(settings, lambda: not redis.exists(VOTES, PROCESSING))
    assert counted.stored == waiting
    assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == last
    assert handler("vote")(cast, context)["statusCode"] == 202


def test_a_batch_with_dead_letters_is_acknowledged(redis, queue) -> None:
    redis.lpush(VOTES, b"junk", Vote("a", "x").encode())
    fill_up(redis)
    junk, vote = queue.claim(1, most=10, most_bytes=1000)
    assert queue.claim(1, most=10, most_bytes=1000, acknowledge=2, dead=[DeadLetter("not_json", junk)]) == []
    assert redis.llen(DEAD) == 1
    assert not redis.exists(VOTES, PROCESSING)
    assert vote == Vote("a", "x").encode()


def test_junk_that_fills_the_memory_is_parked(redis, database, settings) -> None:
    fill(redis, VOTES, *(b'{"vote": "c", "voter_id": "v%d"}' % i for i in range(500)))
    waiting = redis.llen(VOTES)
    bounded = Settings({**settings.env, "DEAD_LETTERS": str(waiting)})
    counted = drain(bounded, lambda: not redis.exists(VOTES, PROCESSING))
    assert (counted.parked, redis.llen(DEAD)) == (waiting, waiting)


def test_a_worker_with_nothing_to_do_ends_well_while_a_foreign_key_fills_the_memory(redis, database, settings) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode())
    fill_up(redis)
    looks = iter(range(12))
    counted = drain(settings, lambda: next(looks, None) is None)  # a failure would be raised
    assert (counted.stored, counted.superseded) == (1, False)


def test_waiting_sees_a_vote_once_there_is_room_again(redis, queue) -> None:
    fill_up(redis)
    assert not queue.wait(0.01)
    with pytest.raises(QueueUnavailable):
        queue.push(Vote("a", "x"))
    redis.delete("foreign")
    # A server frees a large key in the background.
    wait_for(lambda: redis.info("memory")["used_memory"] < 0.9 * MEMORY, "room")
    queue.push(Vote("a", "x"))
    assert queue.wait(0.01)


def test_the_draining_is_handed_back_and_taken_over(redis, queue) -> None:
    messages = [b"%d" % i for i in range(6)]
    redis.lpush(VOTES, *messages)
    token = queue.greatest_token() + 1
    queue.claim(token, most=10, most_bytes=100)
    redis.lpush(VOTES, b"newer")
    fill_up(redis)
    assert queue.stop_claims()
    assert not queue.stop_claims()
    assert int(redis.get(HANDED_BACK)) > 1.7e12
    assert queue.give_back(token + 1) == 6
    assert redis.lrange(VOTES, 0, -1)[::-1] == [*messages, b"newer"]
    assert not watch(queue, 0.05).is_drained
    assert queue.allow_claims()


def test_results_are_announced(redis, database, settings, request) -> None:
    sent: Lambda = request.getfixturevalue("lambda_")
    table = VoteTable(database)
    table.install()
    Subscribers(redis).add("c=")
    fill_up(redis)
    database.execute("INSERT INTO votes VALUES ('x', 'a')")
    with publishing(settings, sent):
        pass  # it publishes before it ends
    snapshot = Snapshots(redis).read()
    assert snapshot is not None
    assert (dict(snapshot.tally.counts), snapshot.tally.version) == ({"a": 1}, table.tally().version)
    assert [payload["buckets"] for payload in sent.payloads] == [[bucket_of("c=")]]


def test_a_broadcast_keeps_its_books_and_subscribers_may_come(redis) -> None:
    fill_up(redis)
    subscribers, snapshots = Subscribers(redis), Snapshots(redis)
    number = bucket_of("c=")
    assert subscribers.add("c=")
    assert not subscribers.add("c=")
    subscribers.owe_all()
    (bucket,) = subscribers.read([number], at=7)
    assert subscribers.read([number], at=7) == []
    subscribers.mark_halfway(bucket, "b", 3)
    subscribers.mark_delivered({number: 4}, {number: bucket.before})
    subscribers.mark_delivered(dict.fromkeys(range(BUCKETS), 5))
    subscribers.mark_speed(123.4)
    state = subscribers.state()
    assert (state.sizes[number], state.delivered[number], state.posts_per_s) == (1, 5, 123.4)
    assert snapshots.write(Tally(9, {"a": 1})) == (9, 0.0)
    subscribers.remove(["c="])
    assert subscribers.of(range(BUCKETS)) == []
    assert FrameCounts(redis).add("flooder=", 5, 100.0) == 5


def test_dead_letters_are_queued_again_and_dropped(redis, database, handler, context) -> None:
    VoteTable(database).install()
    for number in range(3):
        redis.rpush(DEAD, DeadLetter("refused_by_database", Vote("a", f"v{number}").encode()).encode())
    redis.rpush(DEAD, DeadLetter("not_json", b"junk").encode())
    fill_up(redis)
    ops = handler("ops")
    assert ops({"operation": "dead requeue", "reason": "refused_by_database"}, context)["requeued"] == 3
    assert ops({"operation": "dead drop"}, context)["dropped"] == 1
    assert redis.llen(VOTES) == 3


def test_dead_letters_that_fill_the_memory_are_dropped(redis, database, handler, context) -> None:
    fill(redis, DEAD, *(DeadLetter("not_json", b"%d" % i).encode() for i in range(100)))
    parked = redis.llen(DEAD)
    assert handler("ops")({"operation": "dead drop", "reason": "not_json"}, context)["dropped"] == parked
    assert not redis.exists(DEAD)


def test_the_servers_are_those_that_are_meant(redis: Redis) -> None:
    version = redis.info("server")
    assert (version.get("valkey_version") or version["redis_version"]).split(".")[0] in {"7", "9"}
