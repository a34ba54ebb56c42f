"""A snapshot of an initialized environment that is restored twice, with fork() for the restore. Covers snap_start.

The real handlers and the hooks of the real runtime run in it. Before the snapshot, each handler has also answered a
request: more than Lambda does, so that everything that a function keeps is there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.conftest import ROOT
from tests.management_api import ManagementApi
from voting.database.vote_table import VoteTable
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.tally import Tally

RESTORED = r"""
import json, os, random, sys
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
from awslambdaric.lambda_context import LambdaContext
import app

events, keeps_hooks, draws_before = json.loads(sys.argv[1]), "hooks" in sys.argv, "pool" in sys.argv
context = LambdaContext("r", None, {}, 2**41, "arn:aws:lambda:eu-central-1:1:function:f")


def sockets():
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return sorted(found - given)


given = set()
given = set(sockets())
for event in events:
    app.handler(event, context)
if draws_before:
    pool = [os.urandom(16) for _ in range(9)]
    os.urandom = lambda count: pool.pop()[:count]
state = random.getstate()
if keeps_hooks:
    run_before_snapshot()
report = {"kept": sockets(), "loaded": sorted(sys.modules), "restored": []}
for _ in range(2):
    receiver, sender = os.pipe()
    if os.fork() == 0:
        random.setstate(state)  # fork() draws a new one, and a restore does not
        if keeps_hooks:
            run_after_restore()
        answers = [app.handler(event, context) for event in events]
        drawn = {"answers": answers, "random": random.random(), "sockets": sockets()}
        os.write(sender, json.dumps(drawn).encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        report["restored"].append(json.loads(pipe.read()))
    os.wait()
print(json.dumps(report))
"""
EVENTS = {
    "vote": ("http-get-vote-page", "http-post-json", "http-post-form"),
    "result": ("http-get-results", "http-get-health"),
    "ws_connect": ("websocket-subscribe", "websocket-ping", "websocket-disconnect"),
}


@pytest.fixture
def env(settings: Settings, redis: Redis, database: psycopg.Connection, api: ManagementApi) -> dict[str, str]:
    VoteTable(database).install()
    Snapshots(redis).write(Tally(1, {"a": 1}))
    return {
        **settings.env,
        "WEBSOCKET_URL": f"ws://127.0.0.1:{api.port}/live",
        "PYTHONPATH": str(ROOT / "layers" / "voting"),
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
    }


def restore_twice(function: str, env: dict[str, str], *words: str) -> dict[str, Any]:
    events = [json.loads((ROOT / "events" / f"{name}.json").read_text()) for name in EVENTS[function]]
    done = subprocess.run(
        [sys.executable, "-c", RESTORED, json.dumps(events), *(words or ["hooks"])],
        cwd=Path(ROOT, "functions", function),
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize("function", EVENTS)
def test_nothing_that_an_environment_opened_is_in_its_snapshot(function: str, env: dict[str, str]) -> None:
    report = restore_twice(function, env)
    assert report["kept"] == []
    one, other = report["restored"]
    assert one["sockets"]
    assert set(one["sockets"]).isdisjoint(other["sockets"])
    for answer in (*one["answers"], *other["answers"]):
        assert answer["statusCode"] < 400, answer


@pytest.mark.parametrize("function", EVENTS)
def test_two_environments_of_one_snapshot_draw_differently(function: str, env: dict[str, str]) -> None:
    one, other = restore_twice(function, env)["restored"]
    assert one["random"] != other["random"]


def test_two_environments_of_one_snapshot_issue_no_id_and_no_token_twice(env: dict[str, str], redis: Redis) -> None:
    one, other = restore_twice("vote", env)["restored"]
    issued = [drawn(answer) for restored in (one, other) for answer in restored["answers"]]
    values = [value for values in issued for value in values]
    assert len(values) > 6
    assert len(values) == len(set(values))
    voters = [json.loads(message)["voter_id"] for message in redis.lrange("votes", 0, -1)]
    assert len(voters) == len(set(voters)) == 6


def drawn(answer: dict[str, Any]) -> list[str]:
    """What is random in an answer: the voter's id, and the token of the page's form."""
    ids = [cookie.split("=", 1)[1].partition(";")[0] for cookie in answer["cookies"] if cookie.startswith("voter_id=")]
    _, found, rest = answer["body"].partition('name="token" value="')
    return ids + [rest.partition('"')[0]] * bool(found)


def test_without_the_hooks_two_environments_share_connections_and_jitter(env: dict[str, str]) -> None:
    """That the tests above would see it."""
    report = restore_twice("result", env, "nothing")
    one, other = report["restored"]
    assert report["kept"]
    assert set(one["sockets"]) & set(other["sockets"])
    assert one["random"] == other["random"]


def test_an_id_that_is_drawn_before_the_snapshot_is_seen(env: dict[str, str]) -> None:
    one, other = restore_twice("vote", env, "hooks", "pool")["restored"]
    assert [drawn(answer)[0] for answer in one["answers"]] == [drawn(answer)[0] for answer in other["answers"]]


@pytest.mark.parametrize("function", EVENTS)
def test_a_snapshot_holds_what_later_answers_need(function: str, env: dict[str, str]) -> None:
    wanted = {"voting.logs", "aws_lambda_powertools", "html", "ssl"} | ({"psycopg"} if function != "vote" else set())
    assert wanted <= set(restore_twice(function, env)["loaded"])


def test_another_environment_registers_nothing(env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import app, sys; print('snapshot_restore_py' in sys.modules)"],
        cwd=Path(ROOT, "functions", "vote"),
        env=env | {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
