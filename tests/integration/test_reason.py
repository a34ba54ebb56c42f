"""What an operator is told where a store does not do as it should: the cause, by real servers that have it."""

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis
from redis._parsers.base import BaseParser
from redis.exceptions import RedisError

from local.stores.valkey import get_binary_path
from tests import certificate
from tests.pooler import answers, pooled
from tests.stack import wait_for
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.queue.vote_queue import QueueUnavailable, VoteQueue
from voting.reason import REDIS_CODES, explain
from voting.settings import Settings
from voting.vote import Vote

SERVERS = {"redis 7.0": shutil.which("redis-server"), "valkey": str(get_binary_path())}
Ops = Callable[..., dict[str, Any]]


@pytest.fixture
def ops(handler, context, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ops:
    """Perform an operation with stores of one's own."""

    def ops(operation: str, *, redis: str | None = None, postgres: str | None = None, **more: Any) -> dict[str, Any]:
        for name, url in {"REDIS_URL": redis, "DATABASE_URL": postgres}.items():
            monkeypatch.setenv(name, url or settings.env[name])
        return handler("ops")({"operation": operation, **more}, context)

    return ops


def told(ops: Ops, store: str, url: str) -> str:
    """What `status` and `preflight` say of *store*, which must be the same reason; and an operation that needs it."""
    name = {"Redis": "redis", "Postgres": "postgres"}[store]
    status = [text for text in ops("status", **{name: url})["problems"] if text.startswith(f"{store} does not")]
    preflight = [text for text in ops("preflight", watch_s=0.1, **{name: url})["problems"] if f"{store} cannot" in text]
    refused = ops("dead list" if store == "Redis" else "tally verify", **{name: url})
    assert not refused["ok"]
    (reason,) = {text.partition(": ")[2] for text in (*status, *preflight)}
    assert reason in refused["error"]["message"]
    assert "127.0.0.1" not in reason
    assert "localhost" not in reason
    return reason


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate.write(tmp_path_factory.mktemp("tls") / "pem")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving(folder: Path, port: int, program: str, *settings: str) -> Iterator[None]:
    arguments = [program, "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *settings]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(port), program)
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def over_tls(tmp_path: Path, pem: Path) -> Iterator[str]:
    """The port of a Redis that speaks TLS with a certificate that nobody trusts."""
    port = free_port()
    of_tls = {"tls-port": str(port), "tls-cert-file": str(pem), "tls-key-file": str(pem), "tls-auth-clients": "no"}
    arguments = [part for name, value in of_tls.items() for part in (f"--{name}", value)]
    program = SERVERS["redis 7.0"]
    assert program
    for _ in serving(tmp_path, port, program, "--port", "0", "--tls-ca-cert-file", str(pem), *arguments):
        yield str(port)


def test_a_certificate_that_is_not_trusted_is_named_and_what_to_do(ops: Ops, database, over_tls: str) -> None:
    reason = told(ops, "Redis", f"rediss://127.0.0.1:{over_tls}")
    assert "self-signed certificate" in reason
    assert "?ssl_ca_certs=" in reason


def test_a_certificate_of_another_host_is_named(ops: Ops, database, over_tls: str, pem: Path) -> None:
    reason = told(ops, "Redis", f"rediss://localhost:{over_tls}?ssl_ca_certs={pem}")
    assert "another host name" in reason


def test_a_file_of_authorities_that_is_not_there_is_told(ops: Ops, database, over_tls: str) -> None:
    assert "does not exist" in told(ops, "Redis", f"rediss://127.0.0.1:{over_tls}?ssl_ca_certs=/no/such.pem")


def test_with_the_authoritys_file_it_is_trusted(ops: Ops, database, settings, over_tls: str, pem: Path) -> None:
    url = f"rediss://127.0.0.1:{over_tls}?ssl_ca_certs={pem}"
    clients = Clients(Settings({**settings.env, "REDIS_URL": url}), redis_retries=0)
    VoteQueue(clients.redis()).push(Vote("a", "x"))
    clients.close()
    assert ops("status", redis=url).get("queue", {}).get("waiting") == 1, ops("status", redis=url)


def test_a_connection_over_tls_without_a_password_is_good_at_once(settings: Settings, over_tls: str, pem: Path) -> None:
    url = f"rediss://127.0.0.1:{over_tls}?ssl_ca_certs={pem}"
    for _ in range(30):  # the tickets of TLS 1.3 may be there before the first command, or after it
        clients = Clients(Settings({**settings.env, "REDIS_URL": url}), redis_retries=0)
        assert clients.redis().ping()
        VoteQueue(clients.redis()).push(Vote("a", "x"))
        clients.close()


def test_tls_where_there_is_none_and_none_where_there_is(ops: Ops, database, redis_url: str, over_tls: str) -> None:
    assert "TLS" in told(ops, "Redis", redis_url.replace("redis://", "rediss://"))
    assert "broke" in told(ops, "Redis", f"redis://127.0.0.1:{over_tls}")


@pytest.mark.parametrize("program", SERVERS)
def test_a_full_memory_is_named(ops: Ops, database, settings: Settings, tmp_path: Path, program: str) -> None:
    port = free_port()
    path = SERVERS[program]
    assert path
    for _ in serving(tmp_path, port, path, "--port", str(port), "--maxmemory", "1"):
        url = f"redis://127.0.0.1:{port}"
        assert ops("handback", redis=url)["ok"]  # what makes room works all the same
        clients = Clients(Settings({**settings.env, "REDIS_URL": url}), redis_retries=0)
        with pytest.raises(QueueUnavailable) as caught:
            VoteQueue(clients.redis()).push(Vote("a", "x"))
        assert "memory is full (OOM)" in explain(caught.value.__cause__)
        clients.close()


def test_a_command_that_the_acl_forbids_is_named(ops: Ops, database, redis: Redis, redis_url: str) -> None:
    redis.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">pw", "~*", "+info", "+ping", "+get", "+type")
    url = re.sub(r"//.*@", "//poor:pw@", redis_url)
    assert "the command evalsha (NOPERM)" in told_without_preflight(ops, url)
    redis.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">pw", "~*", "+@all", "-hgetall", "-llen", "-hmget")
    assert "(NOPERM)" in told_without_preflight(ops, url)  # within a script
    redis.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">pw", "~other", "+@all")
    assert "(NOPERM)" in told_without_preflight(ops, url)  # of a key
    redis.execute_command("ACL", "DELUSER", "poor")


def told_without_preflight(ops: Ops, url: str) -> str:
    return next(text for text in ops("status", redis=url)["problems"] if text.startswith("Redis"))


@pytest.mark.parametrize("login", ["default:wrong@", "nosuch:wrong@"])
def test_a_wrong_login_of_redis_is_told(ops: Ops, database, redis_url: str, login: str) -> None:
    assert "password is wrong (WRONGPASS)" in told(ops, "Redis", re.sub(r"//.*@", f"//{login}", redis_url))


def test_a_missing_password_of_redis_is_told(ops: Ops, database, redis_url: str) -> None:
    assert "requires a password (NOAUTH)" in told(ops, "Redis", re.sub(r"//.*@", "//", redis_url))


def test_a_replica_and_missing_replicas_are_told(ops: Ops, database, tmp_path: Path) -> None:
    port = free_port()
    program = SERVERS["redis 7.0"]
    assert program
    for _ in serving(tmp_path, port, program, "--port", str(port)):
        url = f"redis://127.0.0.1:{port}"
        with Redis.from_url(url) as redis:
            redis.config_set("min-replicas-to-write", 1)
            assert "(NOREPLICAS" in ops("handback", redis=url)["error"]["message"]
            redis.config_set("min-replicas-to-write", 0)
            redis.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            assert "(READONLY)" in ops("handback", redis=url)["error"]["message"]


@pytest.mark.parametrize(("store", "scheme"), [("Redis", "redis"), ("Postgres", "postgresql")])
def test_where_the_network_is_at_fault_it_is_told_how(ops: Ops, redis, database, store: str, scheme: str) -> None:
    assert "refused" in told(ops, store, f"{scheme}://u:p@127.0.0.1:{free_port()}/0")
    assert "cannot be resolved" in told(ops, store, f"{scheme}://u:p@no-such-host.invalid/0")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "in time" in told(ops, store, f"{scheme}://u:p@127.0.0.1:{silent.getsockname()[1]}/0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: re.sub(r"//.*@", "//postgres:wrong@", url), "password is wrong (28P01)"),
        (lambda url: re.sub(r"//.*@", "//nobody:wrong@", url), "password is wrong"),
        (lambda url: re.sub(r"//.*@", "//postgres@", url), "requires a password"),
        (lambda url: re.sub(r"/postgres$", "/nosuch", url), "no database of this name (3D000)"),
        (lambda url: f"{url}?sslmode=require", "does not speak TLS"),
    ],
)
def test_a_wrong_login_of_postgres_is_told(ops: Ops, redis, database_url: str, change, words: str) -> None:
    assert words in told(ops, "Postgres", change(database_url))


def test_tls_of_postgres_is_told_and_works_with_its_authority(
    ops: Ops, redis, database, database_url, pem, handler
) -> None:
    with pooled(database_url, "transaction", certificate=pem) as url:
        assert "TLS only" in told(ops, "Postgres", f"{url}?sslmode=disable")
        reason = told(ops, "Postgres", f"{url}?sslmode=verify-full&sslrootcert=system")
        assert "not trusted" in reason
        assert "DATABASE_SSLROOTCERT" in reason
        at_another = url.replace("127.0.0.1", "localhost")
        assert "another host name" in told(ops, "Postgres", f"{at_another}?sslmode=verify-full&sslrootcert={pem}")
        assert "does not exist" in told(ops, "Postgres", f"{url}?sslmode=verify-full&sslrootcert=/no/such.pem")
        assert ops("preflight", watch_s=0.1, postgres=f"{url}?sslmode=verify-full&sslrootcert={pem}")["ok"]


def test_a_right_that_is_lacking_is_told_by_table(ops: Ops, redis, database: psycopg.Connection, database_url) -> None:
    database.execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN PASSWORD 'pw'")
    VoteTable(database).install()
    answer = ops("status", postgres=re.sub(r"//.*@", "//poor:pw@", database_url))
    assert any("permission denied for schema" in text and "42501" in text for text in answer["problems"])
    database.execute("DROP ROLE poor")


def test_what_a_row_holds_is_not_told(database: psycopg.Connection) -> None:
    database.execute("CREATE TABLE votes (id text PRIMARY KEY CHECK (id <> 'a voter'), vote int)")
    for row in ("('a voter', 1)", "('x', 'secret')", "(NULL, 1)", "('x', 99999999999)"):
        with pytest.raises(psycopg.Error) as caught:
            database.execute(f"INSERT INTO votes VALUES {row}".encode())
        assert caught.value.sqlstate in explain(caught.value)
        assert not re.search("a voter|secret|9999|Failing", explain(caught.value))


@pytest.mark.parametrize("code", REDIS_CODES)
def test_every_code_of_redis_is_told_also_from_within_a_script(code: str) -> None:
    for answer in (f"{code} 7 secret:1", f"ERR Error running script (call to f_1): @user_script:5: -{code} secret"):
        told = explain(BaseParser.parse_error(answer))  # as redis-py makes errors of answers
        assert code in told
        assert "secret" not in told


def test_what_is_not_known_is_named_by_its_class_only() -> None:
    assert explain(KeyError("secret")) == "KeyError"
    assert explain(RedisError("secret")) == "RedisError"
    assert explain(psycopg.OperationalError("secret")) == "OperationalError"
    assert explain(ssl.SSLError(1, "secret")) == "TLS failed (the connection broke)"
    assert "secret" not in explain(OSError(5, "secret"))
