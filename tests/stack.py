"""The whole system as `make up` starts it: `python -m local` in a process of its own, with stores of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import psycopg
from redis import Redis

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))  # the one factor that scales every wait
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
DEADLINE_S = 20.0
FREE_PORTS = ("--http-port", "0", "--websocket-port", "0", "--lambda-port", "0")
VOTES, PROCESSING, DEAD = "votes", "{votes}:processing", "{votes}:dead"  # as the contract names them
# What the template declares and a developer's shell may hold: the tests run with the template's own values.
DECLARED = (
    *("REDIS_URL", "DATABASE_URL", "QUESTION", "OPTIONS", "OPTION_A", "OPTION_B", "COOKIE_KEYS"),
    *("ACCEPT_LEGACY_IDS", "ACCEPT_OLD_COOKIES", "ALLOWED_ORIGINS"),
)


@dataclass(frozen=True)
class Stack:
    """The addresses of a running system, as its run.json tells them."""

    http: str
    websocket: str
    lambda_: str
    redis: str
    postgres: str
    pid: int
    run: Mapping[str, Any]  # the whole run.json
    state_dir: Path
    log_file: Path

    @property
    def for_boto3(self) -> Mapping[str, str]:
        """What a client of its Invoke API is made of."""
        keys = {name: self.run[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
        return {"endpoint_url": self.lambda_, "region_name": self.run["aws_region"], **keys}

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.log_file.read_text(errors="replace")

    def local(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m local` with *arguments* on the state directory, to its end."""
        return local(self.state_dir, *arguments)

    def store_pid(self, name: str) -> int:
        """The process of the embedded store `redis` or `postgres`."""
        program = {"redis": "valkey", "postgres": "postgres"}[name]
        return next(p.pid for p in psutil.Process(self.pid).children() if program in Path(p.cmdline()[0]).name)

    def results(self) -> dict[str, Any]:
        return httpx.get(f"{self.http}/api/results", timeout=30, trust_env=False).raise_for_status().json()

    def empty(self) -> None:
        """Leave no vote and no dead letter behind; return once the results show it."""
        with Redis.from_url(self.redis) as redis:
            redis.delete(VOTES)
            # Not deleted: a batch that the worker has in its hands would be stored after the TRUNCATE.
            wait_for(lambda: redis.llen(PROCESSING) == 0, "the worker to finish its batch")
            with psycopg.connect(self.postgres, autocommit=True) as database:
                wait_for(lambda: _has_tally(database), "the first run of the worker to make the table")
                database.execute("TRUNCATE votes")
            redis.delete(DEAD)
        wait_for(lambda: self.results()["total"] == 0, "the results to be empty")


@contextmanager
def running(state_dir: Path, *arguments: str, shell: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Start the system on free ports, with *arguments* and the variables of *shell*; stop it by SIGTERM.

    Nothing may stay behind.

    Raises:
        AssertionError: it did not come up, did not end well, or left a process or its run.json; with its log.
    """
    log_file = state_dir.with_name(f"{state_dir.name}.log")
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", *FREE_PORTS, "--state-dir", str(state_dir), *arguments],
            cwd=ROOT,
            env={**environment(), **(shell or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _announced(process, state_dir, log_file)
    finally:
        _stop(process, state_dir, log_file)


def local(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m local` with *arguments* on *state_dir*, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "local", "--state-dir", str(state_dir), *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=START_TIMEOUT_S * PATIENCE,
    )


def environment() -> Mapping[str, str]:
    """The environment of a shell in which nobody has set anything of ours."""
    return {name: value for name, value in os.environ.items() if name not in DECLARED}


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Let processes that are started in the block heed Ctrl-C, which the background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(look: Callable[[], T | None], what: str, within_s: float = DEADLINE_S, every_s: float = 0.02) -> T:
    """Return what *look* finds as soon as it is truthy.

    Raises:
        AssertionError: it was not within *within_s*, scaled by PATIENCE; with *what* was waited for.
    """
    deadline = time.monotonic() + within_s * PATIENCE
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"waited {within_s * PATIENCE:.0f} s in vain for {what}"
        time.sleep(every_s)


def _has_tally(database: psycopg.Connection) -> bool:
    return database.execute("SELECT to_regclass('voting.vote_tally') IS NOT NULL").fetchone() == (True,)


def _announced(process: subprocess.Popen[bytes], state_dir: Path, log_file: Path) -> Stack:
    run_file = state_dir / "run.json"

    def look() -> bool:
        return run_file.exists() or process.poll() is not None

    wait_for(look, f"run.json; it said:\n{log_file.read_text()}", START_TIMEOUT_S)
    assert process.poll() is None, f"it ended with {process.returncode}:\n{log_file.read_text()}"
    run = json.loads(run_file.read_text())
    addresses = {name: run[name] for name in ("http", "websocket", "redis", "postgres", "pid")}
    return Stack(lambda_=run["lambda"], run=run, state_dir=state_dir, log_file=log_file, **addresses)


def _stop(process: subprocess.Popen[bytes], state_dir: Path, log_file: Path) -> None:
    family: list[psutil.Process] = []
    if process.poll() is None:  # a test may have stopped it
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S * PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    log = log_file.read_text(errors="replace")
    assert process.returncode == 0, f"it ended with {process.returncode}:\n{log}"
    assert not (state_dir / "run.json").exists(), f"run.json is still there:\n{log}"
    # The kernel clears away what init adopts a moment after its death.
    _, alive = psutil.wait_procs(family, timeout=2 * PATIENCE)
    assert not alive, f"{alive} survived it:\n{log}"
