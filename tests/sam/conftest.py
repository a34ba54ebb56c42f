"""Functions in containers: the real SAM CLI, its Runtime Interface Emulator, the built layer, real stores.

`sam local invoke` makes a container for each event, which takes seconds. So each function gets one event that way, and
all events go to containers that `sam local start-lambda` keeps warm.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from scripts.sam_local import Engine, Unable, architecture
from tests.conftest import ROOT, event
from tests.management_api import ManagementApi
from tests.stack import PATIENCE, wait_for

SAM = Path(sys.executable).with_name("sam")
TIMEOUT_S = 180 * PATIENCE
SAM_ENV = {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1"}
Invoke = Callable[[str, str], Any]


@dataclass(frozen=True)
class Build:
    """What `sam build` made, and what it said."""

    folder: Path
    said: str


@pytest.fixture(scope="session")
def engine() -> Engine:
    try:
        return Engine.find()
    except Unable as error:
        reason = str(error)
    with warnings.catch_warnings():  # docker-py leaves the socket of its failed request to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Build]:
    """`sam build` for each instruction set, into folders of their own: for arm64 without a word of it."""

    def build(target: str, *overrides: str, **env: str) -> Build:
        folder = tmp_path_factory.mktemp(target)
        return Build(folder, run([str(SAM), "build", "--build-dir", str(folder), *overrides], **SAM_ENV, **env).stderr)

    with ThreadPoolExecutor() as pool:
        plain = pool.submit(build, "arm64")
        other = pool.submit(build, "x86_64", "--parameter-overrides", "Architecture=x86_64", ARCHITECTURE="x86_64")
        return {"arm64": plain.result(), "x86_64": other.result()}


@pytest.fixture(scope="session")
def build(builds: Mapping[str, Build]) -> Path:
    """The folder with what is built for this machine."""
    return builds[architecture()].folder


@pytest.fixture(scope="session")
def management_api() -> Iterator[ManagementApi]:
    api = ManagementApi(lambda _id, _posts: 200)
    yield api
    api.close()


@pytest.fixture(scope="session")
def run_file(
    redis_url: str, database_url: str, management_api: ManagementApi, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What `make up` would tell of the stores of this test run, and of a WebSocket API that a test looks into."""
    file = tmp_path_factory.mktemp("state") / "run.json"
    run = {
        "http": "https://a1b2c3d4.execute-api.eu-central-1.amazonaws.com",
        "websocket": f"ws://127.0.0.1:{management_api.port}/live",
        "redis": redis_url,
        "postgres": database_url,
        "pid": os.getpid(),
    }
    file.write_text(json.dumps(run))
    return file


@pytest.fixture(scope="session")
def sam_local(engine: Engine, build: Path, run_file: Path) -> Callable[..., list[str]]:
    """The command line of `sam local`, wired as `make sam-invoke` does it."""
    script = str(ROOT / "scripts" / "sam_local.py")
    return lambda *words: [sys.executable, script, "--run", str(run_file), "--build", str(build), *words]


@pytest.fixture(scope="session")
def invoke(sam_local: Callable[..., list[str]]) -> Invoke:
    """`sam local invoke FUNCTION --event EVENT`: a container of its own; the parsed answer."""

    def invoke(function: str, name: str) -> Any:
        return json.loads(run(sam_local("invoke", function, "--event", name)).stdout.strip().splitlines()[-1])

    return invoke


@pytest.fixture(scope="session")
def warm(sam_local: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Invoke]:
    """Invoke with an event of events/ through boto3 and `sam local start-lambda`; the parsed answer."""
    log = tmp_path_factory.mktemp("start-lambda") / "log"
    with serving(sam_local("start-lambda", "--warm-containers", "LAZY"), log) as url:
        client = boto3.client(
            "lambda",
            endpoint_url=url,
            region_name="eu-central-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(read_timeout=TIMEOUT_S, retries={"max_attempts": 0}),
        )

        def invoke(function: str, name: str) -> Any:
            answer = client.invoke(FunctionName=function, Payload=json.dumps(event(name)))
            payload = answer["Payload"].read()
            assert "FunctionError" not in answer, f"{payload!r}\n{log.read_text()}"
            return json.loads(payload)

        yield invoke
        client.close()


@contextmanager
def serving(command: list[str], log: Path) -> Iterator[str]:
    """Run a server of `sam local` on a free port until the end; it must end by itself when asked to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: process.poll() is not None or _listens(port), f"{command}", 60)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_S)


def _listens(port: int) -> bool:
    """No request: the HTTP API would start a container for it."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def run(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program that must succeed, in the repository."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done
