"""Everything that touches Redis, on a cluster of one node and of three, entered at a node that has none of our keys."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.conftest import event
from tests.integration.worker.test_drain import ends_when
from tests.integration.worker.test_publisher import Lambda, lambda_, publishing  # noqa: F401 - a fixture
from tests.management_api import ManagementApi
from tests.redis_server import serving
from voting.broadcast.subscribers import BUCKETS, Subscribers, bucket_of
from voting.clients import Clients
from voting.ops.preflight.redis import redis_findings
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import DEAD, PROCESSING, VOTES
from voting.queue.vote_queue import QueueUnavailable, VoteQueue
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.tally import Tally
from voting.vote import Vote
from voting.worker.drain import Drain

DEADLINE_S = 30.0
SLOTS = 16384
OURS = 9180  # the slot of `votes`, and of whatever has its tag
NODE = ("--cluster-enabled yes", "--cluster-node-timeout 2000", "--cluster-require-full-coverage no")


class Cluster:
    """Nodes that serve the slots in even parts, in this order."""

    def __init__(self, urls: list[str]) -> None:
        self.nodes = [Redis.from_url(url) for url in urls]
        self.urls = urls
        share = -(-SLOTS // len(urls))
        for number, node in enumerate(self.nodes):
            first = number * share
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, min(first + share, SLOTS) - 1)
            node.execute_command("CLUSTER MEET", "127.0.0.1", self.port(0))
        self.home = OURS // share
        until(lambda: all(self.is_whole(node) for node in self.nodes))

    def port(self, number: int) -> int:
        return int(self.nodes[number].get_connection_kwargs()["port"])

    def is_whole(self, node: Redis) -> bool:
        info = node.execute_command("CLUSTER INFO")
        text = (
            info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split() if ":" in line)
        )
        return text["cluster_state"] == "ok" and int(text["cluster_known_nodes"]) == len(self.nodes)

    def give_our_slot_to(self, number: int) -> None:
        """Move the slot, which must be empty, as an operator does."""
        target = self.nodes[number].execute_command("CLUSTER MYID")
        for node in (self.nodes[number], *self.nodes):
            node.execute_command("CLUSTER SETSLOT", OURS, "NODE", target)
        self.home = number


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def cluster_of(count: int, server: str) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        cluster = Cluster([stack.enter_context(serving(server, *NODE)) for _ in range(count)])
        yield cluster
        for node in cluster.nodes:
            node.close()


@pytest.fixture(
    scope="module", params=[("valkey", 1), ("valkey", 3), ("redis", 3)], ids=lambda each: f"{each[0]}-{each[1]}"
)
def running(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    server, count = request.param
    with cluster_of(count, server) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    for node in running.nodes:
        node.flushall()
    return running


@pytest.fixture
def redis(cluster: Cluster) -> Redis:
    """The node that has our keys."""
    return cluster.nodes[cluster.home]


@pytest.fixture
def redis_url(cluster: Cluster) -> str:
    """The node that is asked first, one of the others where there are any."""
    return cluster.urls[(cluster.home + 1) % len(cluster.urls)]


@pytest.fixture
def settings(settings: Settings, api: ManagementApi) -> Settings:
    return Settings({**settings.env, "WEBSOCKET_URL": f"ws://127.0.0.1:{api.port}/live"})


def test_votes_are_queued_drained_and_announced(redis, database, settings, handler, context, request) -> None:
    sent: Lambda = request.getfixturevalue("lambda_")
    clients = Clients(settings, redis_retries=0)
    Subscribers(clients.redis()).add("c=")
    answer = handler("vote")(event("http-post-json"), context)
    assert answer["statusCode"] == 202
    redis.lpush(VOTES, b"junk")
    with publishing(settings, sent) as publisher:
        Drain(clients, ends_when(lambda: not redis.exists(VOTES, PROCESSING)), publisher.moved).run()
    clients.close()
    assert database.execute("SELECT count(*) FROM votes").fetchone() == (1,)
    snapshot = Snapshots(redis).read()
    assert snapshot is not None
    assert sum(snapshot.tally.counts.values()) == 1
    assert redis.llen(DEAD) == 1
    assert sent.payloads[0]["buckets"] == [bucket_of("c=")]


def test_results_are_broadcast_to_those_who_subscribed(redis, database, settings, api, handler, context) -> None:
    clients = Clients(settings, redis_retries=0)
    Snapshots(clients.redis()).write(Tally(7, {"a": 1}))
    clients.close()
    ws_connect, ws_broadcast = handler("ws_connect"), handler("ws_broadcast")
    subscribe: dict[str, Any] = event("websocket-subscribe")
    connection_id = subscribe["requestContext"]["connectionId"]
    assert ws_connect(subscribe, context) == {"statusCode": 200}
    assert ws_connect(event("websocket-ping"), context) == {"statusCode": 200}
    buckets = list(range(BUCKETS))
    broadcast = {"buckets": buckets, "subscribers": 1, "version": 7, "at": 1}
    assert ws_broadcast(broadcast, context) == {"sent": 1, "gone": 0, "failed": 0}
    assert ws_broadcast(broadcast, context)["sent"] == 0  # its books say so
    assert [json.loads(frame)["type"] for frame in api.frames[connection_id]] == ["results", "pong", "results"]
    state = Subscribers(redis).state()
    assert (sum(state.sizes), state.delivered[bucket_of(connection_id)]) == (1, 7)
    for handle in (ws_connect, ws_broadcast):
        for client in handle.__wrapped__.__globals__["environment"]():
            client.close()


def test_an_operator_sees_and_does_everything(redis, database, handler, context) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode())
    redis.rpush(DEAD, DeadLetter("not_json", b"junk").encode())
    ops = handler("ops")

    def done(operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = ops({"operation": operation, **arguments}, context)
        assert answer["ok"], answer
        return answer

    status = done("status")
    assert (status["queue"]["waiting"], status["dead"]["total"]) == (1, 1)
    assert not [problem for problem in status["problems"] if "Redis" in problem]
    assert done("dead list")["letters"][0]["reason"] == "not_json"
    assert done("dead drop")["dropped"] == 1
    assert done("handback")["changed"]
    assert done("takeover", force=True)["changed"]
    findings = [finding for finding in done("preflight", watch_s=0.1)["findings"] if "Redis" in finding["what"]]
    assert {finding["level"] for finding in findings} <= {"ok", "warning"}
    assert any("cluster mode is on" in finding["what"] for finding in findings)


def test_the_slot_may_move_to_another_node(cluster, redis_url, settings) -> None:
    if len(cluster.nodes) == 1:
        return
    clients = Clients(settings, redis_retries=0)
    queue, subscribers = VoteQueue(clients.redis()), Subscribers(clients.redis())
    queue.push(Vote("a", "x"))
    subscribers.add("c=")
    cluster.nodes[cluster.home].flushall()
    cluster.give_our_slot_to((cluster.home + 1) % len(cluster.nodes))
    queue.push(Vote("b", "x"))
    assert subscribers.add("c=")
    assert cluster.nodes[cluster.home].lrange(VOTES, 0, -1) == [Vote("b", "x").encode()]
    assert len(queue.claim(1, most=10, most_bytes=100)) == 1
    clients.close()


def test_while_the_slot_is_being_moved_votes_are_refused_and_none_is_lost() -> None:
    with cluster_of(2, "valkey") as cluster:
        clients = Clients(Settings({"REDIS_URL": cluster.urls[0]}), redis_retries=0)
        queue = VoteQueue(clients.redis())
        queue.push(Vote("a", "x"))
        source, target = cluster.home, 1 - cluster.home
        ids = [node.execute_command("CLUSTER MYID") for node in cluster.nodes]
        cluster.nodes[target].execute_command("CLUSTER SETSLOT", OURS, "IMPORTING", ids[source])
        cluster.nodes[source].execute_command("CLUSTER SETSLOT", OURS, "MIGRATING", ids[target])
        migrate = ("MIGRATE", "127.0.0.1", cluster.port(target), "", 0, 5000, "KEYS", VOTES)
        cluster.nodes[source].execute_command(*migrate)
        with pytest.raises(QueueUnavailable):
            queue.push(Vote("b", "x"))
        cluster.give_our_slot_to(target)
        queue.push(Vote("a", "y"))
        assert queue.claim(1, most=10, most_bytes=100) == [Vote("a", "x").encode(), Vote("a", "y").encode()]
        clients.close()


def test_a_home_that_is_gone_is_left_for_the_entrance() -> None:
    with serving("valkey", *NODE) as entrance, contextlib.ExitStack() as home:
        cluster = Cluster([entrance, home.enter_context(serving("valkey", *NODE))])
        clients = Clients(Settings({"REDIS_URL": entrance}), redis_retries=0)
        cluster.give_our_slot_to(1)
        queue = VoteQueue(clients.redis())
        queue.push(Vote("a", "x"))
        home.close()
        with pytest.raises((QueueUnavailable, RedisError)):
            queue.push(Vote("a", "y"))
        cluster.nodes[0].execute_command(
            "CLUSTER SETSLOT", OURS, "NODE", cluster.nodes[0].execute_command("CLUSTER MYID")
        )
        queue.push(Vote("a", "z"))
        assert cluster.nodes[0].lrange(VOTES, 0, -1) == [Vote("a", "z").encode()]
        clients.close()


def test_the_entrance_may_be_a_replica() -> None:
    with serving("valkey", *NODE) as first, serving("valkey", *NODE) as entrance:
        cluster = Cluster([first])
        replica = Redis.from_url(entrance)
        replica.execute_command("CLUSTER MEET", "127.0.0.1", cluster.port(0))
        primary = cluster.nodes[0].execute_command("CLUSTER MYID").decode()
        until(lambda: primary in str(replica.execute_command("CLUSTER NODES")))
        replica.execute_command("CLUSTER REPLICATE", primary)
        until(lambda: replica.info("replication")["master_link_status"] == "up")
        clients = Clients(Settings({"REDIS_URL": entrance}), redis_retries=0)
        assert not [each.what for each in redis_findings(clients.redis()) if each.level == "problem"]
        VoteQueue(clients.redis()).push(Vote("a", "x"))
        assert cluster.nodes[0].llen(VOTES) == 1
        clients.close()
        replica.close()
        cluster.nodes[0].close()


def test_a_slot_that_is_not_served_is_a_problem() -> None:
    with serving("valkey", *NODE) as url:
        clients = Clients(Settings({"REDIS_URL": url}), redis_retries=0)
        (finding,) = redis_findings(clients.redis())
        assert (finding.level, "does not serve" in finding.what) == ("problem", True)
        clients.close()
