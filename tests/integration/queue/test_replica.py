"""A push that waits for a replica: confirmed, or neither called recorded nor unrecorded. Two real servers."""

import os
import signal
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from redis import Redis

from tests.redis_server import serving
from tests.stack import wait_for
from voting.clients import Clients
from voting.ops.health import check_health
from voting.ops.preflight.redis import redis_findings
from voting.queue.queue_view import VOTES, QueueView
from voting.queue.vote_queue import PushUnanswered, QueueUnavailable, VoteQueue
from voting.settings import Settings
from voting.vote import Vote

VOTE = Vote("a", "0123456789abcdef")


@pytest.fixture
def primary() -> Iterator[Redis]:
    with serving("valkey") as url, Redis.from_url(url) as client:
        yield client


@pytest.fixture
def replica(primary: Redis) -> Iterator[Redis]:
    with serving("valkey") as url, Redis.from_url(url) as client:
        client.replicaof("127.0.0.1", address(primary))
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the replica")
        yield client


@pytest.fixture
def clients(primary: Redis, database_url: str) -> Iterator[Clients]:
    env = {"REDIS_URL": f"redis://127.0.0.1:{address(primary)}/0", "DATABASE_URL": database_url}
    clients = Clients(Settings(env | {"CONFIRM_BY_REPLICA": "true"}), redis_retries=0)
    yield clients
    clients.close()


@pytest.fixture
def queue(clients: Clients) -> VoteQueue:
    return VoteQueue(clients.redis(), confirm_by_replica=True)


@contextmanager
def stopped(server: Redis) -> Iterator[None]:
    """Freeze the process of *server*; its kernel goes on taking what it is sent."""
    pid = server.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def address(redis: Redis) -> int:
    return int(redis.get_connection_kwargs()["port"])


def test_an_accepted_vote_is_on_the_replica(queue: VoteQueue, primary: Redis, replica: Redis) -> None:
    for pushed in range(1, 51):
        queue.push(VOTE)
        assert replica.llen(VOTES) == pushed  # at once: nothing is waited for here
    primary.script_flush()  # then the script and the wait are sent twice
    queue.push(VOTE)
    assert replica.llen(VOTES) == 51


def test_without_the_wait_an_accepted_vote_may_be_on_the_primary_alone(clients: Clients, replica: Redis) -> None:
    replica.replicaof("127.0.0.1", 1)  # nobody listens there
    VoteQueue(clients.redis()).push(VOTE)
    assert clients.redis().llen(VOTES) == 1
    assert replica.llen(VOTES) == 0


def test_without_a_replica_a_vote_is_not_confirmed(queue: VoteQueue, primary: Redis) -> None:
    with pytest.raises(PushUnanswered, match="no replica"):
        queue.push(VOTE)
    assert set(primary.lrange(VOTES, 0, -1)) == {VOTE.encode()}  # each attempt landed: it counts once


def test_a_replica_that_stands_still_confirms_nothing(queue: VoteQueue, replica: Redis) -> None:
    queue.push(VOTE)
    with stopped(replica), pytest.raises(PushUnanswered, match="no replica"):
        queue.push(VOTE)
    queue.push(VOTE)
    assert replica.llen(VOTES) >= 3


def test_one_of_two_replicas_is_enough(queue: VoteQueue, primary: Redis, replica: Redis) -> None:
    with serving("valkey") as url, Redis.from_url(url) as other:
        other.replicaof("127.0.0.1", address(primary))
        wait_for(lambda: other.info("replication")["master_link_status"] == "up", "the replica")
        with stopped(replica):
            queue.push(VOTE)
        assert other.llen(VOTES) == 1


def test_a_user_that_may_not_wait_has_not_recorded_nothing(clients: Clients, primary: Redis, replica: Redis) -> None:
    """The vote is on the list by then: to call it unrecorded would be wrong."""
    primary.execute_command("ACL", "SETUSER", "default", "-wait")
    with pytest.raises(PushUnanswered, match="WAIT"):
        VoteQueue(clients.redis(), confirm_by_replica=True).push(VOTE)
    assert primary.llen(VOTES) == 2
    assert [finding.level for finding in redis_findings(clients.redis(), confirm_by_replica=True)].count("problem") == 1


@pytest.mark.parametrize(
    "refusal", [b"-LOADING Redis is loading the dataset in memory", b"-UNBLOCKED role changed", b"-ERR a replica"]
)
@pytest.mark.parametrize("light", [False, True])
def test_a_wait_that_is_refused_after_the_vote_was_taken_leaves_it_open(refusal: bytes, light: bool) -> None:
    """As where a failover comes between the two commands. No server can be made to do that at the right moment."""
    with one_by_one({b"TIME": b"*2\r\n$1\r\n1\r\n$1\r\n0", b"EVALSHA": b":0", b"WAIT": refusal}) as port:
        env = {"REDIS_URL": f"redis://127.0.0.1:{port}/0", "CONFIRM_BY_REPLICA": "true"}
        clients = Clients(Settings(env), redis_retries=0, light=light)
        with pytest.raises(PushUnanswered):
            VoteQueue(clients.redis(), confirm_by_replica=True).push(VOTE)
        clients.close()


@contextmanager
def one_by_one(answers: Mapping[bytes, bytes]) -> Iterator[int]:
    """A port that answers each command with what *answers* has for its name, or OK."""

    class Answering(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.readline():
                words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                self.wfile.write(answers.get(words[0], b"+OK") + b"\r\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_refused_push_is_called_unrecorded_as_ever(queue: VoteQueue, primary: Redis, replica: Redis) -> None:
    primary.config_set("min-replicas-to-write", 5)
    with pytest.raises(QueueUnavailable, match="refused") as refused:
        queue.push(VOTE)
    assert not isinstance(refused.value, PushUnanswered)
    primary.config_set("min-replicas-to-write", 0)
    queue.push(VOTE)  # no answer of the refused push is left on the connection
    assert replica.llen(VOTES) == 1


def test_health_and_preflight_tell_that_no_replica_is_there(clients: Clients, primary: Redis, replica: Redis) -> None:
    assert check_health(clients).redis == "ok"
    assert "wait for one of 1" in said(clients)
    replica.replicaof("NO", "ONE")
    wait_for(lambda: primary.info("replication")["connected_slaves"] == 0, "the replica to leave")
    assert check_health(clients).redis == "refused"
    assert "no replica is connected" in said(clients)
    assert QueueView(clients.redis()).takes_votes()


def said(clients: Clients) -> str:
    return "\n".join(finding.what for finding in redis_findings(clients.redis(), confirm_by_replica=True))
