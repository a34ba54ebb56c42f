"""What each function loads, to the last library: a cold start pays for all of it, and for nothing that is not here."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from voting.broadcast.subscribers import Subscribers
from voting.database.vote_table import VoteTable
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.tally import Tally

ROOT = Path(__file__).parents[2]
# Modules that take a millisecond and more, and that nobody needs without knowing it. `dataclasses` brings inspect, ast
# and dis, and each of its classes half a millisecond; importlib.resources brings zipfile, tempfile and shutil.
HEAVY = {
    "asyncio",
    "ctypes",
    "dataclasses",
    "decimal",
    "email.message",
    "html",
    "http",
    "http.client",
    "importlib.metadata",
    "importlib.resources",
    "inspect",
    "multiprocessing",
    "redis.client",
    "redis.connection",
    "ssl",
    "subprocess",
    "tempfile",
    "unittest",
    "xml.etree",
}
# redis and botocore look whether these are there: with the developers' tools they are, in the layer they are not.
ABSENT = {"OpenSSL", "_awscrt", "_cffi_backend", "awscrt", "certifi", "cryptography"}
# The light client parses with hiredis and raises the exceptions of redis, which are a module of their own.
LIGHT = {"redis", "hiredis"}
# The asynchronous half of redis, and importlib.metadata, come with the whole of it.
REDIS = LIGHT | {
    "asyncio",
    "dataclasses",
    "email.message",
    "importlib.metadata",
    "importlib.resources",
    "inspect",
    "redis.client",
    "redis.connection",
    "ssl",
    "subprocess",
    "tempfile",
}
POWERTOOLS = {"aws_lambda_powertools", "botocore", "jmespath", "typing_extensions"}  # of botocore, only its __init__
# importlib.metadata, which comes with redis, loads it on older interpreters; newer ones leave it out.
OLDER = {"email.message"}
PSYCOPG = {"psycopg", "psycopg_binary", "ctypes", "decimal"}
BOTO = {
    "boto3",
    "html",
    "http",
    "dateutil",
    "s3transfer",
    "six",
    "urllib3",
    "http.client",
    "multiprocessing",
    "xml.etree",
}


@dataclass(frozen=True)
class Loads:
    """Libraries that are there once app.py is imported, and those that the first event adds."""

    event: str
    at_import: frozenset[str] | set[str]
    at_first: frozenset[str] | set[str]


FUNCTIONS = {
    "vote": Loads("http-post-json", LIGHT, set()),
    "result": Loads("http-get-results", LIGHT, set()),
    "ws_connect": Loads("websocket-disconnect", LIGHT, set()),
    "ws_broadcast": Loads("broadcast", REDIS | POWERTOOLS, set()),
    "ops": Loads("ops-status", REDIS | POWERTOOLS | PSYCOPG, set()),
    # boto3 comes on purpose before the fence: an older run still drains, see publisher.py.
    "worker": Loads("schedule", REDIS | POWERTOOLS | PSYCOPG, BOTO),
}
SCRIPT = """
import json, sys, types

def loaded():
    names = {name for name in sys.modules if name in heavy}
    for name, module in list(sys.modules.items()):
        if "site-packages" in (getattr(module, "__file__", None) or ""):
            names.add(name.partition(".")[0])
    return names - set(json.loads(sys.argv[3]))

heavy = set(json.loads(sys.argv[2]))
before = loaded()
import app
at_import = loaded() - before
context = types.SimpleNamespace(
    function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:eu-central-1:1:function:f",
    aws_request_id="r", get_remaining_time_in_millis=lambda: 0,
)
app.handler(json.loads(sys.argv[1]), context)
print(json.dumps([sorted(at_import), sorted(loaded() - before - at_import)]))
"""


@pytest.fixture
def env(settings: Settings, redis: Redis, database: psycopg.Connection) -> dict[str, str]:
    """The environment of a function in a system that is at work."""
    VoteTable(database).install()
    Snapshots(redis).write(Tally(1, {"a": 1}))
    Subscribers(redis).add("c=")
    return {
        **settings.env,
        "PYTHONPATH": str(ROOT / "layers" / "voting"),
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_loads_what_it_uses_and_nothing_else(function: str, env: dict[str, str]) -> None:
    loads = FUNCTIONS[function]
    event = (ROOT / "events" / f"{loads.event}.json").read_text()
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, event, json.dumps(sorted(HEAVY)), json.dumps(sorted(ABSENT))],
        cwd=ROOT / "functions" / function,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    at_import, at_first = json.loads(found.stdout.splitlines()[-1])
    some = OLDER if "redis.client" in loads.at_import else set()
    assert some.union(at_import) == some | loads.at_import
    assert at_first == sorted(loads.at_first)
