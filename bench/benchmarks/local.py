"""The whole system on a laptop, compared with `sam local` and the Flask service before it: rate, start, memory."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Figure, Goal, Report, Scale, in_turns
from bench.load import http_load
from bench.load.http_load import Outcome, Post
from scripts.sam_local import Engine, Unable
from tests.stack import FREE_PORTS, Stack, running, wait_for

ROOT = Path(__file__).parents[2]
CONNECTIONS = 16
SECONDS = 2.0
REPETITIONS = 7
STARTS = 3
FLASK_WORKERS = 4
OURS, SAM, FLASK, BARE = "ours", "sam local", "gunicorn + Flask", "a bare handler"
BARE_TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  BareApi:
    Type: AWS::Serverless::HttpApi
  BareFunction:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: bare
      Events:
        Post: {Type: HttpApi, Properties: {ApiId: !Ref BareApi, Method: POST, Path: /}}
"""
BARE_HANDLER = "def handler(event, context):\n    return {'statusCode': 202, 'body': '{}'}\n"
SAM_START_S = 120.0
FIRST_ANSWER_S = 60.0
NOTES = (
    (
        f"POSTs over {CONNECTIONS} connections, in turns, while all contenders run and the worker counts their votes. "
        "The load generator, the contenders and the stores share this machine's cores."
    ),
    (
        f"Flask runs under gunicorn with {FLASK_WORKERS} sync workers, which close the connection after each response. "
        "The emulation renders no page after the vote and keeps its connection to Redis, so it is faster than the "
        "original."
    ),
    (
        "The limit is a handler that returns a constant, behind the same gateway and the same awslambdaric, without "
        "stores and without a worker."
    ),
    (
        "Memory is the sum of the proportional set sizes (PSS) of all processes after the load. It counts a shared "
        "page once, where RSS counts it for each process. A warm start finds the state directory of an earlier run."
    ),
)


@dataclass(slots=True)
class _Contender:
    """One server and its measurements."""

    name: str
    request: Post
    outcomes: list[Outcome] = field(default_factory=list)

    def warm_up(self, seconds: float) -> None:
        """Send one request, so that everything has started, then load the server for *seconds* unmeasured."""
        httpx.post(
            self.request.url,
            content=self.request.body,
            headers={"Content-Type": self.request.content_type},
            timeout=FIRST_ANSWER_S,
            trust_env=False,
        ).raise_for_status()
        if seconds:
            http_load.post(self.request, CONNECTIONS, seconds)

    def measure(self, seconds: float) -> float:
        """Requests per second. A turn without a response is repeated once, since it allows no ratio.

        Raises:
            AssertionError: the repeated turn had no response either.
        """
        outcome = http_load.post(self.request, CONNECTIONS, seconds)
        if not outcome.per_s:
            say(f"{self.name} did not respond; once more")
            outcome = http_load.post(self.request, CONNECTIONS, max(seconds, FIRST_ANSWER_S / 4))
        assert outcome.per_s, f"{self.name} does not respond"
        self.outcomes.append(outcome)
        say(f"{self.name}: {outcome.per_s:.0f}/s, p99 {outcome.p99_ms:.1f} ms, {outcome.failed} failed")
        return outcome.per_s

    def figure(self, unit: str, value: Callable[[Outcome], float]) -> Figure:
        return Figure(self.name, unit, tuple(value(outcome) for outcome in self.outcomes))


def measure(scale: Scale) -> Report:
    """Start and stop the system a few times, then load it in turns with the others."""
    seconds = 1.0 if scale.smoke else SECONDS
    notes = [*NOTES, f"The load comes from {http_load.generator()}."]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        state = Path(folder) / "state"
        starts_s = [] if scale.smoke else _starts(state, STARTS - 1)
        with ExitStack() as stack:
            system = stack.enter_context(_timed(state, starts_s))
            ours = _Contender(OURS, Post(f"{system.http}/api/votes", '{"vote": "a"}'))
            others = [stack.enter_context(_bare(Path(folder))), *_flask(system, stack, notes)]
            if not scale.smoke:
                others += _sam(system, Path(folder), stack, notes)
            contenders = (ours, *others)
            for contender in contenders:
                contender.warm_up(0 if scale.smoke else seconds / 2)
            for _ in in_turns(scale.repetitions(REPETITIONS), *(_turn(one, seconds) for one in contenders)):
                pass
            pss_mb, rss_mb = _memory_mb(system.pid)
    notes += [f"{one.name}: {failed} failed requests" for one in contenders if (failed := _failed(one))]
    rate = Comparison(
        "requests per second",
        ours.figure("requests/s", lambda one: one.per_s),
        tuple(one.figure("requests/s", lambda outcome: outcome.per_s) for one in others),
    )
    return Report(
        comparisons=(
            rate,
            *_latencies(ours, others),
            Comparison("warm start", Figure(OURS, "s", tuple(starts_s))),
            Comparison("memory of all processes", Figure(OURS, "MB", (pss_mb,)), (Figure("as RSS", "MB", (rss_mb,)),)),
        ),
        goals=(
            *(Goal(f"at least 40 times {SAM}", rate.ratio(SAM), 40, "at least") for one in others if one.name == SAM),
            *(
                Goal(f"at least 1.5 times {FLASK}", rate.ratio(FLASK), 1.5, "at least")
                for o in others
                if o.name == FLASK
            ),
            Goal("a warm start within 3 s", sorted(starts_s)[len(starts_s) // 2], 3, "at most"),
            Goal("at most 600 MB in all", pss_mb, 600, "at most"),
        ),
        notes=tuple(notes),
    )


def _starts(state: Path, count: int) -> list[float]:
    """Seconds of each of *count* warm starts, after a first one that makes the database."""
    took_s: list[float] = []
    for _ in range(count + 1):
        with _timed(state, took_s):
            pass
    return took_s[1:]


@contextmanager
def _timed(state: Path, took_s: list[float]) -> Iterator[Stack]:
    """Start the system and append the seconds it took to *took_s*."""
    began = time.monotonic()
    with running(state, "--no-reload") as system:
        took_s.append(time.monotonic() - began)
        say(f"up after {took_s[-1]:.1f} s")
        yield system


def _turn(contender: _Contender, seconds: float) -> Callable[[], float]:
    return lambda: contender.measure(seconds)


def _latencies(ours: _Contender, others: Sequence[_Contender]) -> Iterator[Comparison]:
    for name, value in (("p50", lambda one: one.p50_ms), ("p99", lambda one: one.p99_ms)):
        yield Comparison(f"latency, {name}", ours.figure("ms", value), tuple(one.figure("ms", value) for one in others))


def _failed(contender: _Contender) -> int:
    return sum(outcome.failed for outcome in contender.outcomes)


def _memory_mb(pid: int) -> tuple[float, float]:
    runner = psutil.Process(pid)
    found = [process.memory_full_info() for process in (runner, *runner.children(recursive=True))]
    return sum(one.pss for one in found) / 1e6, sum(one.rss for one in found) / 1e6


# ---------------------------------------------------------------- The others


@contextmanager
def _bare(folder: Path) -> Iterator[_Contender]:
    (folder / "bare").mkdir()
    (folder / "bare" / "app.py").write_text(BARE_HANDLER)
    (folder / "template.yaml").write_text(BARE_TEMPLATE)
    state = folder / "bare-state"
    command = [sys.executable, "-m", "local", *FREE_PORTS, "--no-reload", "--state-dir", str(state)]
    with (folder / "bare.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--template", str(folder / "template.yaml")], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        run_file = state / "run.json"
        wait_for(lambda: process.poll() is not None or run_file.exists(), "the bare handler")
        assert process.poll() is None, (folder / "bare.log").read_text()
        yield _Contender(BARE, Post(f"{json.loads(run_file.read_text())['http']}/", '{"vote": "a"}'))
    finally:
        process.terminate()
        process.wait(30)


def _flask(system: Stack, stack: ExitStack, notes: list[str]) -> Iterator[_Contender]:
    if importlib.util.find_spec("gunicorn") is None or importlib.util.find_spec("flask") is None:
        notes.append(f"{FLASK} was left out: requirements/bench.txt is not installed.")
        return
    url = stack.enter_context(_gunicorn(system.redis))
    yield _Contender(FLASK, Post(f"{url}/", "vote=a", "application/x-www-form-urlencoded"))


@contextmanager
def _gunicorn(redis_url: str) -> Iterator[str]:
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", str(FLASK_WORKERS), "--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--log-level", "warning", "bench.rivals.flask_service:app"],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_url},
    )
    try:
        wait_for(lambda: process.poll() is not None or _listens(port), "gunicorn")
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _sam(system: Stack, folder: Path, stack: ExitStack, notes: list[str]) -> Iterator[_Contender]:
    try:
        Engine.find()
    except Unable as error:
        notes.append(f"{SAM} was left out: {error}")
        return
    url = stack.enter_context(_start_api(system.state_dir / "run.json", folder / "sam.log"))
    yield _Contender(SAM, Post(f"{url}/api/votes", '{"vote": "a"}'))


@contextmanager
def _start_api(run_file: Path, log_file: Path) -> Iterator[str]:
    port = _free_port()
    script = str(ROOT / "scripts" / "sam_local.py")
    build = str(ROOT / ".aws-sam" / "local")
    command = [sys.executable, script, "--run", str(run_file), "--build", build, "start-api", "--port", str(port)]
    say("starting sam local")
    with log_file.open("wb") as log:
        process = subprocess.Popen([*command, "--warm-containers", "LAZY"], cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_for(lambda: process.poll() is not None or _listens(port), "sam local start-api", SAM_START_S)
        assert process.poll() is None, log_file.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()  # it takes its containers with it
        process.wait(SAM_START_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


BENCHMARK = Benchmark("local", "How many votes does the system take on one laptop?", measure)
