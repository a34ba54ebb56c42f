"""Passwords of all kinds in every setting that takes a URL: what is printed and answered holds no part of one."""

import inspect
import io
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import psycopg
import pytest
from awslambdaric.lambda_context import LambdaContext
from psycopg import sql
from redis import Redis

from local.template.account import Account
from tests.conftest import Handler, event
from tests.signature import Signature
from tests.stack import running
from votectl.__main__ import main
from voting.clients import Clients
from voting.observability import formatter, logger, sampler
from voting.settings import InvalidSetting, Settings
from voting.worker.drain import STOP_BEFORE_END_S

LETTERS = "gjkmpqvwxzGJKMPQVWXZ"  # of no word that anything prints, and of no number
ODD = ["#", "/", "?", "%", "@", ":", "[", "]", " ", '"', "'", "\\", "é", "✓", "\n", "\t", "\r", "&", "=", "+", "%zz"]
ODD += ["$", "//", "?x=", "#@", "/@", ":@", "%41", "%00", "%ff", "/0", "@h:", ",", ";", "\x7f", "{", "}", "*", "😀"]
ODD += ["\u2048"]  # becomes ?! where it is normalized
FOUR = 4


def passwords(count: int) -> list[str]:
    """Each odd character in several places, between letters by which a part of the password is known again."""
    dice = random.Random(17)

    def letters(least: int = 2) -> str:
        return "".join(dice.choices(LETTERS, k=dice.randint(least, 5)))

    odd = [ODD[number % len(ODD)] for number in range(count)]
    return [f"{letters()}{one}{letters()}{dice.choice(ODD)}{letters(4)}" for one in odd]


PASSWORDS = passwords(100)


def parts(password: str) -> set[str]:
    """Every four characters in a row, as the password is spelt, as a URL spells it, and as JSON and Python do."""
    spelt = {password, quote(password, safe=""), json.dumps(password)[1:-1], repr(password)[1:-1]}
    return {text[start : start + FOUR] for text in spelt for start in range(len(text) - FOUR + 1)}


def shown(password: str, printed: str) -> set[str]:
    # What consists of % and digits only is of no password in particular.
    return {part for part in parts(password) if part in printed and sum(letter in LETTERS for letter in part) > 1}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", stream)
    return stream


@pytest.fixture
def drive(
    handler: Callable[[str], Handler],
    lines: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., str]]:
    """Run the functions with settings of their own; return all that they print, answer and raise."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    closed = socket.socket()  # a port that nothing listens on, for as long as the test runs
    closed.bind(("127.0.0.1", 0))

    def drive(functions: dict[str, list[dict[str, Any]]], **env: str) -> str:
        for name, value in env.items():
            monkeypatch.setenv(name, value.replace("NOWHERE", f"127.0.0.1:{closed.getsockname()[1]}"))
        answers = []
        for function, events in functions.items():
            sampler.forget()  # another environment, which has said nothing yet
            handle = handler(function)
            answers += [call(handle, asked) for asked in events]
            close(handle)
        out, err = capfd.readouterr()
        printed = "\n".join([*answers, lines.getvalue(), out, err])
        lines.seek(0)
        lines.truncate()
        return printed

    yield drive
    closed.close()


def close(handle: Handler) -> None:
    """End what the handler has opened for its environment."""
    of_app = inspect.unwrap(handle).__globals__
    with suppress(InvalidSetting):
        for name in ("clients", "environment"):
            if name in of_app and of_app[name].cache_info().currsize:
                found = of_app[name]()
                for one in found if isinstance(found, tuple) else (found,):
                    one.close()


def call(handle: Handler, asked: dict[str, Any]) -> str:
    deadline_ms = int((time.time() + STOP_BEFORE_END_S + 0.05) * 1000)
    context = LambdaContext(
        "8476a536-e9f4-11e8-9739-2dfe598c3fcd", None, {}, deadline_ms, "arn:aws:lambda:…:function:f"
    )
    try:
        return json.dumps(handle(asked, context), ensure_ascii=False)
    except Exception as error:  # noqa: BLE001 - as Lambda's runtime does, which logs it and answers with it
        return f"{type(error).__name__}: {error}"


ASKED = {
    "vote": [event("http-post-json"), event("http-get-vote-page")],
    "result": [event("http-get-results"), event("http-get-results-page"), event("http-get-health")],
    "ops": [{"operation": "status"}, {"operation": "preflight", "watch_s": 0.02}, {"operation": "tally verify"}],
    "ws_connect": [event("websocket-disconnect")],
    "ws_broadcast": [event("broadcast")],
}


@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
def test_no_part_of_a_password_is_printed_where_its_store_cannot_be_reached(drive, redis, database, name: str) -> None:
    scheme = {"REDIS_URL": "redis", "DATABASE_URL": "postgresql"}[name]
    named = 0
    for number, password in enumerate(PASSWORDS):
        asked = ASKED | ({"worker": [{}]} if number % 10 == 0 else {})
        raw = drive(asked, **{name: f"{scheme}://us{password}r:{password}@NOWHERE/0"})
        assert not shown(password, raw), (password, raw)
        named += f"{name} " in raw and "percent-encode" in raw
        encoded = drive(asked, **{name: f"{scheme}://user:{quote(password, safe='')}@NOWHERE/0"})
        assert not shown(password, encoded), (password, encoded)
        assert "percent-encode" not in encoded or "%00" in quote(password, safe="")
    assert named > len(PASSWORDS) / 2


@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
def test_no_part_of_a_wrong_password_is_printed(drive, settings: Settings, redis, database, name: str) -> None:
    url = urlsplit(settings.env[name])
    for password in PASSWORDS[::4]:
        encoded = quote(password, safe="")
        printed = drive(ASKED, **{name: f"{url.scheme}://{url.username}:{encoded}@{url.hostname}:{url.port}{url.path}"})
        assert not shown(password, printed), (password, printed)
        assert "the user or the password is wrong" in printed


@pytest.mark.parametrize(
    ("name", "url", "function"),
    [
        ("HTTP_URL", "https://user:{}@vote.example.org", "ws_connect"),
        ("WEBSOCKET_URL", "wss://user:{}@live.example.org/live", "result"),
        ("ALLOWED_ORIGINS", "https://a.example.org,https://user:{}@vote.example.org", "vote"),
        ("DATABASE_HOST", "postgresql://user:{}@db.example.org", "ops"),
        ("DATABASE_HOST", "user:{}@db.example.org", "result"),
    ],
)
def test_a_url_that_takes_no_password_does_not_show_one(
    drive, redis, database, monkeypatch, name, url, function
) -> None:
    asked = {"ws_connect": [event("websocket-connect")], "vote": ASKED["vote"]}.get(function, ASKED[function])
    if name == "DATABASE_HOST":
        monkeypatch.delenv("DATABASE_URL")
    for password in PASSWORDS:
        for spelt in (password, quote(password, safe="")):
            printed = drive({function: asked}, **{name: url.format(spelt)})
            assert not shown(password, printed), (password, printed)
            assert f"{name}" in printed


def test_a_password_that_is_encoded_logs_in(settings: Settings, redis: Redis, database: psycopg.Connection) -> None:
    stores = {name: urlsplit(settings.env[name]) for name in ("REDIS_URL", "DATABASE_URL")}
    database.execute("DROP ROLE IF EXISTS odd; CREATE ROLE odd LOGIN; SET scram_iterations = 1")
    for password in PASSWORDS:
        redis.execute_command("ACL", "SETUSER", "odd", "reset", "on", "+ping", f">{password}")
        database.execute(sql.SQL("ALTER ROLE odd PASSWORD {}").format(sql.Literal(password)))
        env = {
            name: f"{url.scheme}://odd:{quote(password, safe='')}@{url.hostname}:{url.port}{url.path}"
            for name, url in stores.items()
        }
        clients = Clients(Settings(env))
        assert clients.redis().ping(), password
        assert clients.postgres().execute("SELECT session_user").fetchone() == ("odd",), password
        clients.close()
    redis.execute_command("ACL", "DELUSER", "odd")
    database.execute("DROP ROLE odd")


RAW_AND_UNAMBIGUOUS = ["a:b", "a=b", "a&b", "a$b", "a+b", "a,b", "a*b", "é✓", "a%41b", "a'b", 'a"b', "a\\b", "a;b{}"]


@pytest.mark.parametrize("password", RAW_AND_UNAMBIGUOUS)
def test_characters_that_a_url_may_hold_need_no_encoding(password: str) -> None:
    settings = Settings({"REDIS_URL": f"redis://:{password}@h/0", "DATABASE_URL": f"postgresql://u:{password}@h/db"})
    assert password in settings.redis_url
    assert password in settings.database_url


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("redis_url", "redis://h"),
        ("redis_url", "rediss://user:p@h:6380/3?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required"),
        ("redis_url", "redis://[::1]:6379"),
        ("redis_url", "unix://user:p@/var/run/redis.sock?db=1"),
        ("database_url", "postgresql:///db?host=/var/run/postgresql"),
        ("database_url", "postgres://u:p@h1:5432,h2:5433/db?target_session_attrs=read-write"),
        ("database_url", "postgresql://u:p@[::1]:5432/my%20db?sslmode=verify-full&sslrootcert=/etc/ca.pem"),
        ("database_url", "postgresql://u@%2Fvar%2Frun/db"),
    ],
)
def test_urls_of_every_shape_are_taken(name: str, url: str) -> None:
    assert getattr(Settings({"REDIS_URL": url, "DATABASE_URL": url}), name) == url


@pytest.mark.parametrize("query", ["nosuch=secret", "db=secret", "ssl_cert_reqs=secret", "socket_timeout=secret"])
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_an_option_that_the_driver_does_not_take_is_named_by_its_setting_only(scheme: str, query: str) -> None:
    for name, url in {"redis": f"{scheme}://h/0?{query}", "postgres": f"postgresql://h/db?x{query}"}.items():
        clients = Clients(Settings({"REDIS_URL": url, "DATABASE_URL": url}))
        if (scheme, query) == ("redis", "ssl_cert_reqs=secret"):
            continue  # without TLS, redis-py looks at nothing of it
        with pytest.raises(InvalidSetting, match=r"REDIS_URL|DATABASE_URL") as caught:
            getattr(clients, name)()
        assert "secret" not in str(caught.value)


def test_what_slips_through_is_blotted_out_in_every_spelling(lines: io.StringIO, monkeypatch) -> None:
    password = 'Zq"7/w#x\\é%'
    monkeypatch.setenv("REDIS_URL", f"redis://:{quote(password, safe='')}@h")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a token of the session")
    formatter.conceal(["fetched from somewhere"])
    spelt = [password, quote(password, safe=""), repr(password), "a token of the session", "fetched from somewhere"]
    logger.warning("a slip", text=f"{spelt}", deep={"list": spelt, "error": ValueError(password)})
    line = lines.getvalue()
    assert line.count("***") >= 2 * len(spelt)
    assert not any(
        text in line for text in (password, quote(password), json.dumps(password)[1:-1], "token of", "from some")
    )


def test_an_exception_is_told_without_what_a_driver_says(lines: io.StringIO) -> None:
    def fail() -> None:
        try:
            raise ValueError(said[0])  # noqa: TRY301 - the cause of the next
        except ValueError as error:
            error.add_note(said[0])
            raise psycopg.errors.CheckViolation(said[1]) from error

    said = ["Port could not be cast to integer value as 'half a password'", "Failing row contains (a voter, a)"]
    try:
        fail()
    except psycopg.Error:
        logger.exception("failed")
    line = json.loads(lines.getvalue())
    assert (line["exception_name"], "half" in lines.getvalue(), "voter" in lines.getvalue()) == ("CheckViolation", 0, 0)
    assert "test_an_exception_is_told_without_what_a_driver_says" in line["exception"]  # where it was raised


@pytest.mark.parametrize("spell", [str, lambda text: quote(text, safe="")])
@pytest.mark.parametrize("command", ["demo", "loadtest"])
def test_the_command_line_shows_no_password_of_its_url(command: str, spell: Callable[[str], str], capsys) -> None:
    for password in PASSWORDS:
        with pytest.raises(SystemExit) as caught:
            main([command, "--url", f"https://user:{spell(password)}@127.0.0.1:1"])
        printed = "".join(capsys.readouterr())
        assert (caught.value.code, shown(password, printed)) == (2, set())


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_the_command_line_shows_no_password_of_the_local_run(
    name: str, tmp_path: Path, redis_url, database_url, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    run_file = tmp_path / "run.json"
    monkeypatch.setenv("LOCAL_RUN_JSON", str(run_file))
    for password in ("vzX#kqW/mjP", "vzX%kqW", "vzX?k@q:W"):
        run = {
            "http": "http://127.0.0.1:1",
            "lambda": "http://127.0.0.1:1",
            "redis": redis_url,
            "postgres": database_url,
            **Account().login(),
        }
        run_file.write_text(json.dumps(run | {name: f"{name}ql://u:{password}@h/0".replace("redisql", "redis")}))
        for command in (["loadtest", "--votes", "1"], ["ops", "status"]):
            assert main(command)  # a status that tells of failure, and no exception
            printed = "".join(capfd.readouterr())
            assert not shown(password, printed), printed
            assert "Traceback" not in printed, printed


def test_the_whole_system_prints_no_part_of_passwords_that_are_not_encoded(tmp_path: Path) -> None:
    """With Lambda's own runtime, which logs what a handler raises."""
    shell = {
        "REDIS_URL": "redis://:vzX#kqW/mjP@127.0.0.1:1/0",
        "DATABASE_URL": "postgresql://u:GJx%zqVwK@127.0.0.1:1/x",
    }
    with running(tmp_path / "state", "--no-reload", shell=shell) as stack:
        printed = ""
        with httpx.Client(base_url=stack.http, timeout=30, trust_env=False) as http:
            for path in ("/", "/results", "/api/results", "/health"):
                printed += http.get(path).text
            printed += http.post("/api/votes", json={"vote": "a"}).text
            assert http.get("/health").status_code == 503
        with suppress(httpx.HTTPError):
            printed += httpx.post(
                f"{stack.lambda_}/2015-03-31/functions/OpsFunction/invocations",
                json={"operation": "status"},
                auth=Signature(stack.run),
                trust_env=False,
                timeout=30,
            ).text
        printed += stack.log
    for password in ("vzX#kqW/mjP", "GJx%zqVwK"):
        assert not shown(password, printed)
    assert "REDIS_URL contains #" in printed
