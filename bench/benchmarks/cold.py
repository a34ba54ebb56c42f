"""Cold starts: from the exec of the runtime to the first response, compared with handlers that do little."""

import compileall
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import psycopg
from redis import Redis

from bench.harness import stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Figure, Goal, Report, Scale, in_turns
from bench.load.environment_start import Start
from voting.database.vote_table import VoteTable
from voting.results.snapshot import Snapshots
from voting.tally import Tally

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "voting"
REPETITIONS = 10
# Each function with its first event.
FIRST = {
    "vote": "http-post-json",
    "result": "http-get-results",
    "ws_connect": "websocket-disconnect",
    "ws_broadcast": "broadcast",
    "ops": "ops-status",
    "worker": "schedule",
}
BARE, REDIS, PUSH = "bare handler", "import redis", "redis and a push"
HANDLERS = {
    BARE: "def handler(event, context):\n    return {}\n",
    REDIS: "import redis\n\ndef handler(event, context):\n    return {}\n",
    PUSH: """import json
import os

import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=0.9)


def handler(event, context):
    vote = json.loads(event["body"])["vote"]
    client.lpush("votes", json.dumps({"vote": vote, "voter_id": "0" * 32}))
    return {"statusCode": 202, "body": "{}"}
""",
}


def measure(scale: Scale) -> Report:
    """Start every contender once per repetition, in turns."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        stores.running() as running,
    ):
        packages, note = _packages(Path(folder) / "layer", may_build=not scale.smoke)
        _prepare(running)
        starts = dict(_starts(Path(folder), packages, running))
        if not scale.smoke:
            for start in starts.values():
                start.measure()  # reads every file once, so that no contender waits for the disk
        turns = []
        measures = [partial(_measure, start, running) for start in starts.values()]
        for turn in in_turns(scale.repetitions(REPETITIONS), *measures):
            turns.append(turn)
            say(f"round {len(turns)}: {sum(turn) / 1000:.1f} s for {len(starts)} starts")
    figures = {name: Figure(name, "ms", values) for name, values in zip(starts, zip(*turns, strict=True), strict=True)}
    others = tuple(figures[name] for name in HANDLERS)
    comparisons = [Comparison(name, figures[name], others) for name in FIRST]
    vote, result, ws_connect, *_ = comparisons
    return Report(
        comparisons=comparisons,
        goals=(
            Goal("vote: at most twice a bare handler", vote.ratio(BARE), 2.0, "at most"),
            Goal("result: at most 2.5 times a bare handler", result.ratio(BARE), 2.5, "at most"),
            Goal("ws_connect: at most 2.5 times a bare handler", ws_connect.ratio(BARE), 2.5, "at most"),
        ),
        notes=(
            (
                "From the exec of `python -m awslambdaric` to its response to the first event, on a Lambda Runtime API "
                "that this process serves, with the files in the page cache. On AWS, the sandbox and the download are "
                "added."
            ),
            note,
            (
                "The worker starts with no time left, so it only opens and closes its connections. It imports boto3 "
                "before it takes the fence, so that an older run drains during the import. The function result answers "
                "from the snapshot."
            ),
        ),
    )


def _packages(target: Path, *, may_build: bool) -> tuple[tuple[Path, ...], str]:
    """The folders with the libraries and a note on them: the layer as deployed, or else this checkout."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine = sysconfig.get_platform().rpartition("-")[2].replace("aarch64", "arm64")
    if may_build:
        command = ["make", f"ARTIFACTS_DIR={target}", f"ARCHITECTURE={machine}", f"RUNTIME={version}"]
        command += [f"PYTHON={sys.executable}", f"COMPILER={sys.executable}", "build-VotingLayer"]
        say("building the layer")
        made = subprocess.run(command, cwd=LAYER, capture_output=True, text=True, check=False)
        if made.returncode == 0:
            return (target / "python",), (
                f"The libraries are the layer as its Makefile builds it, for CPython {version} and this machine, with "
                "unchecked bytecode."
            )
        say(made.stderr)
    compileall.compile_dir(LAYER / "voting", quiet=1)
    return (LAYER,), (
        f"The libraries are those of this checkout and its virtual environment (CPython {version}), with bytecode; the "
        "deployed layer is slimmer."
    )


def _measure(start: Start, running: stores.Stores) -> float:
    """Measure *start* while the results in Redis are fresh, as with a worker that runs."""
    _confirm(running)
    return start.measure()


def _prepare(running: stores.Stores) -> None:
    """Fill the stores as in a running system."""
    with psycopg.connect(running.postgres_url, autocommit=True) as connection:
        VoteTable(connection).install()


def _confirm(running: stores.Stores) -> None:
    with Redis.from_url(running.redis_url) as redis:
        Snapshots(redis).write(Tally(1, {"a": 1, "b": 2}))


def _starts(folder: Path, packages: tuple[Path, ...], running: stores.Stores) -> Iterator[tuple[str, Start]]:
    variables = _variables(running)
    for name, source in HANDLERS.items():
        code = folder / name.replace(" ", "-")
        code.mkdir()
        (code / "app.py").write_text(source)
        yield name, _start(code, packages, variables, FIRST["vote"])
    for name, event in FIRST.items():
        code = folder / name
        shutil.copytree(ROOT / "functions" / name, code, ignore=shutil.ignore_patterns("__pycache__"))
        yield name, _start(code, packages, variables, event, timeout_s=0 if name == "worker" else 30)


def _start(
    code: Path, packages: tuple[Path, ...], variables: Mapping[str, str], event: str, timeout_s: float = 30
) -> Start:
    compileall.compile_dir(code, quiet=1)
    return Start(code, packages, variables, (ROOT / "events" / f"{event}.json").read_bytes(), timeout_s)


def _variables(running: stores.Stores) -> dict[str, str]:
    return {
        "POWERTOOLS_SERVICE_NAME": "bench",
        "POWERTOOLS_METRICS_NAMESPACE": "Voting",
        "REDIS_URL": running.redis_url,
        "DATABASE_URL": running.postgres_url,
        "COOKIE_KEYS": "only-for-the-benchmark-0123456789",
        "HTTP_URL": "http://127.0.0.1:1",
        "WEBSOCKET_URL": "ws://127.0.0.1:1/live",
        "BROADCAST_FUNCTION": "WsBroadcastFunction",
    }


BENCHMARK = Benchmark("cold", "How long does a voter wait for a function that has not run yet?", measure)
