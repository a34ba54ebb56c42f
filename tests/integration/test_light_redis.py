"""The client that is quick to import does what redis-py does, on real servers. Covers light_connection."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as TimedOut

from tests import certificate
from tests.integration.test_cluster import cluster_of
from tests.redis_server import free_port, serving
from voting.clients import Clients
from voting.light_connection import ERRORS, PLAIN_ERRORS, LightConnection, Target, error_of, pack
from voting.light_redis import LightRedis
from voting.queue.vote_queue import VoteQueue
from voting.redis_client import new_redis
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.tally import Tally
from voting.vote import Vote

TIMEOUT_S = 0.9
# Of modules of Redis, LDAP and field sets, none of which we use.
NOT_OURS = {"ModuleError", "ExternalAuthProviderError", "NoSuchFieldsetError"}


def light(url: str, *, retries: int = 0, timeout_s: float = TIMEOUT_S) -> LightRedis:
    target = Target.of(url)
    assert target is not None
    return LightRedis(target, timeout_s=timeout_s, retries=retries, whole=lambda: new_redis(url, retries=retries))


@pytest.fixture
def client(redis_url: str, redis: Redis) -> Iterator[LightRedis]:
    client = light(redis_url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """A server of our own, with a user that may do little."""
    with serving("valkey") as url, Redis.from_url(url) as redis:
        redis.execute_command("ACL", "SETUSER", "a@b", "on", ">p:/ss", "~*", "+time", "+ping", "+select", "+auth")
        yield redis


@pytest.fixture
def address(server: Redis) -> str:
    of_connections = server.get_connection_kwargs()
    return f"{of_connections['host']}:{of_connections['port']}"


def failure(ask: Callable[[], object]) -> tuple[type, str, str | None]:
    with pytest.raises(RedisError) as caught:
        ask()
    return type(caught.value), str(caught.value), getattr(caught.value, "status_code", None)


# ---------------------------------------------------------------- The same answers


def test_errors_are_those_of_redis_py() -> None:
    theirs = dict(BaseParser.EXCEPTION_CLASSES)
    plain = {text: kind for text, kind in theirs.pop("ERR").items() if kind.__name__ not in NOT_OURS}
    assert theirs == ERRORS
    assert plain == PLAIN_ERRORS


@pytest.mark.parametrize(
    "line",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "ERR unknown command 'X'",
        "ERR max number of clients reached",
        "MOVED 9180 10.0.0.1:6379",
        "CLUSTERDOWN The cluster is down",
        "WRONGTYPE Operation against a key",
        "BUSY",
        "",
    ],
)
def test_an_error_says_what_redis_py_says(line: str) -> None:
    ours, theirs = error_of(line), BaseParser.parse_error(line)
    assert (type(ours), str(ours), ours.status_code) == (type(theirs), str(theirs), theirs.status_code)


def test_commands_answer_as_in_redis_py(client: LightRedis, redis: Redis) -> None:
    redis.hset("hash", mapping={"a": "1", "b": "x"})
    redis.zadd("sorted", {"one": 1, "two": 2})
    redis.lpush("list", *map(str, range(20_000)))
    double = "return {KEYS[1], ARGV[1], redis.call('LRANGE', 'list', 0, -1)}"
    for each in (client, redis):
        seconds, microseconds = each.time()
        assert seconds > 1_700_000_000
        assert 0 <= microseconds < 1_000_000
    for one, other in (
        (client.register_script(double)(keys=["k"], args=[1.5]), redis.register_script(double)(["k"], [1.5])),
        (piped(client), piped(redis)),
    ):
        assert one == other


def piped(client: Any) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hmget("hash", "a", "c", "b")
        pipeline.zrem("sorted", "three")
        pipeline.llen("list")
        answers: list[Any] = pipeline.execute()
    with client.pipeline(transaction=False) as pipeline:
        assert pipeline.execute() == []
    return answers


def test_what_it_does_not_know_is_left_to_redis_py(client: LightRedis, redis: Redis) -> None:
    redis.lpush("votes", "1", "2")
    assert client.lrange("votes", 0, -1) == [b"2", b"1"]
    assert not hasattr(client, "no_command")
    assert client.register_script("return ARGV[1]")(args=["x"], client=redis) == b"x"


def test_a_script_that_redis_has_forgotten_is_sent_again(client: LightRedis, redis: Redis) -> None:
    script = client.register_script("return 7")
    assert script() == 7
    redis.script_flush()
    assert script() == 7
    with pytest.raises(NoScriptError):
        client.run([pack("EVALSHA", "0" * 40, 0)])


def test_an_error_in_a_pipeline_is_raised_and_leaves_no_answer_behind(client: LightRedis, redis: Redis) -> None:
    redis.set("text", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        client.run([pack("TIME"), pack("LLEN", "text"), pack("GET", "text")])
    assert client.run([pack("GET", "text")]) == [b"x"]


@pytest.mark.parametrize(
    "url", ["redis://localhost/?db=1", "rediss://h?ssl_ca_certs=/x", "unix:///tmp/socket", "redis://user@host:1"]
)
def test_an_address_with_options_or_of_a_file_is_for_redis_py(settings: Settings, url: str) -> None:
    assert Target.of(url) is None
    assert type(Clients(Settings({**settings.env, "REDIS_URL": url}), light=True).redis()) is Redis


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%40ss@10.0.0.1:7000/3",
        "rediss://us%3Aer:p%2Fw@h.example:6380/0",
        "redis://[::1]:6379/",
    ],
)
def test_an_address_is_read_as_redis_py_reads_it(url: str) -> None:
    target = Target.of(url)
    theirs = new_redis(url, retries=0).get_connection_kwargs()
    assert target is not None
    assert target.address == (theirs.get("host", "localhost"), theirs.get("port", 6379))
    assert target.login == tuple(theirs[name] for name in ("username", "password") if name in theirs)
    assert target.database == theirs.get("db", 0)
    assert target.secure == url.startswith("rediss")


# ---------------------------------------------------------------- Logins, databases, TLS


def test_it_logs_in_and_chooses_its_database(server: Redis, address: str) -> None:
    server.flushall()
    client = light(f"redis://a%40b:p%3A%2Fss@{address}/5")
    assert client.time()
    described = server.client_list()
    assert [(each["user"], each["db"]) for each in described if each["user"] == "a@b"] == [("a@b", "5")]
    client.close()


@pytest.mark.parametrize(
    ("login", "command"),
    [("a%40b:wrong@", ("TIME",)), ("a%40b:p%3A%2Fss@", ("GET", "x")), (":secret@", ("TIME",)), ("", ("NO", "x"))],
)
def test_a_refusal_is_that_of_redis_py(server: Redis, address: str, login: str, command: tuple[str, ...]) -> None:
    url = f"redis://{login}{address}/0"
    client, theirs = light(url), new_redis(url, retries=0)
    assert failure(lambda: client.run([pack(*command)])) == failure(lambda: theirs.execute_command(*command))
    client.close()
    theirs.close()


def test_a_replica_refuses_as_to_redis_py(server: Redis, address: str) -> None:
    server.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(ReadOnlyError):
            light(f"redis://{address}").run([pack("SET", "x", "y")])
    finally:
        server.replicaof("NO", "ONE")


@pytest.fixture
def over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """An address with TLS, and one without that leads to the same server; its certificate is trusted."""
    pem, port = certificate.write(tmp_path / "pem"), free_port()
    tls = (f"--tls-port {port}", f"--tls-cert-file {pem}", f"--tls-key-file {pem}", "--tls-auth-clients no")
    with serving("redis", *tls, f"--tls-ca-cert-file {pem}") as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        yield f"rediss://127.0.0.1:{port}/0", url


def test_over_tls_a_connection_that_rests_is_usable(over_tls: tuple[str, str]) -> None:
    """TLS 1.3 sends tickets after its handshake, which must not pass for an answer."""
    client = light(over_tls[0])
    connection = client.connection_pool.get_connection()
    assert not connection.can_read()
    assert client.time()
    assert not connection.can_read()
    with Redis.from_url(over_tls[1]) as other:
        other.execute_command("CLIENT", "KILL", "TYPE", "normal")
    assert connection.can_read()
    client.close()


def test_a_certificate_that_nobody_trusts_or_of_another_host_is_refused(
    over_tls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Broken):
        light(over_tls[0].replace("127.0.0.1", "localhost")).time()
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Broken) as caught:
        light(over_tls[0]).time()
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)


# ---------------------------------------------------------------- Broken connections


def kill(redis: Redis) -> None:
    redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_a_connection_that_broke_is_opened_again_if_that_is_allowed(redis_url: str, redis: Redis) -> None:
    patient, strict = light(redis_url, retries=1), light(redis_url)
    assert patient.time()
    assert strict.time()
    kill(redis)
    assert patient.time()
    with pytest.raises(Broken):
        strict.time()
    assert strict.time()
    patient.close()
    strict.close()


def test_a_server_that_is_away_is_said_to_be(redis_url: str) -> None:
    with pytest.raises(Broken) as caught:
        light(f"redis://127.0.0.1:{free_port()}", retries=1).time()
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("reply", [b"", b"*2\r\n$3\r\nabc\r\n"])
def test_an_answer_that_does_not_come_or_stops_is_a_timeout_and_never_the_next_answer(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answers = iter([reply, b":7\r\n"])
        held: list[socket.socket] = []

        def serve() -> None:
            for answer in answers:
                peer, _ = listening.accept()
                held.append(peer)
                peer.recv(100)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        client = light(f"redis://127.0.0.1:{listening.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(TimedOut):
            client.run([pack("GET", "x")])
        assert client.run([pack("GET", "x")]) == [7]
        thread.join()
        client.close()
        for peer in held:
            peer.close()


def test_reading_without_a_connection_is_an_error(redis_url: str) -> None:
    target = Target.of(redis_url)
    assert target is not None
    with pytest.raises(Broken):
        LightConnection(target, TIMEOUT_S).read_response()


# ---------------------------------------------------------------- A cluster


def test_it_follows_our_keys_to_their_node_and_on_when_they_move(settings: Settings) -> None:
    with cluster_of(3, "valkey") as cluster:
        entrance = cluster.urls[(cluster.home + 1) % 3]
        clients = Clients(Settings({**settings.env, "REDIS_URL": entrance}), redis_retries=0, light=True)
        Snapshots(clients.redis()).write(Tally(3, {"a": 1}))
        snapshot = Snapshots(clients.redis()).read()
        assert snapshot is not None
        assert snapshot.tally == Tally(3, {"a": 1})
        VoteQueue(clients.redis()).push(Vote("a", "first"))
        for node in cluster.nodes:
            node.flushall()
        cluster.give_our_slot_to((cluster.home + 2) % 3)
        VoteQueue(clients.redis()).push(Vote("b", "second"))
        assert cluster.nodes[cluster.home].lrange("votes", 0, -1) == [Vote("b", "second").encode()]
        clients.close()


def test_a_command_that_is_sent_on_without_end_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                while peer.recv(100):
                    peer.sendall(b"-MOVED 9180 127.0.0.1:%d\r\n" % port)

        thread = threading.Thread(target=serve)
        thread.start()
        client = light(f"redis://127.0.0.1:{port}", retries=1)
        with pytest.raises(MovedError):
            client.time()
        client.close()
        thread.join()
