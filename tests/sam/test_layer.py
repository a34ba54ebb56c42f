"""The layer as `sam build` makes it: small, for one machine, its hashes checked, complete for what functions load."""

import io
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from scripts.sam_local import architecture
from tests.conftest import ROOT, event
from tests.sam.conftest import SAM, Build, run
from voting.broadcast.subscribers import Subscribers
from voting.database.vote_table import VoteTable

SOURCE = ROOT / "layers" / "voting"
RUNTIME = "3.13"
LARGEST = 10_000_000
ELF_MACHINES = {"x86_64": 62, "arm64": 183}
WHEEL_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
EVENTS = {
    "vote": "http-post-json",
    "worker": "schedule",
    "result": "http-get-results-page",
    "ws_connect": "websocket-disconnect",
    "ws_broadcast": "broadcast",
    "ops": "ops-status",
}

# Runs one function on one event, and tells every file that was loaded from the given folders.
DRIVER = """
import json, pathlib, sys, time, types
event, folders = json.loads(sys.argv[1]), sys.argv[2:]
sys.path[:0] = folders
import app
end = time.monotonic() + 2
context = types.SimpleNamespace(
    function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:eu-central-1:1:function:f",
    aws_request_id="r", get_remaining_time_in_millis=lambda: 60_000 if time.monotonic() < end else 0,
)
answer = app.handler(event, context)
files = {getattr(module, "__file__", None) for module in sys.modules.values()}
loaded = [str(pathlib.Path(f).relative_to(d)) for f in files if f for d in folders if pathlib.Path(f).is_relative_to(d)]
print(json.dumps({"answer": answer, "loaded": loaded}))
"""


def make(folder: Path, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the layer's Makefile as SAM does."""
    settings = {"ARTIFACTS_DIR": str(folder), "ARCHITECTURE": target, **variables}
    command = ["make", *(f"{name}={value}" for name, value in settings.items()), "build-VotingLayer"]
    python = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=SOURCE, env=os.environ | python, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def layers(builds: Mapping[str, Build]) -> dict[str, Path]:
    """Architecture → what lies in /opt/python."""
    return {target: build.folder / "VotingLayer" / "python" for target, build in builds.items()}


@pytest.fixture(params=ELF_MACHINES)
def target(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def layer(layers: dict[str, Path], target: str) -> Path:
    return layers[target]


def test_the_build_says_for_which_machine_it_is_and_warns_of_nothing(builds: Mapping[str, Build], target: str) -> None:
    assert f"the layer is for {target}," in builds[target].said
    assert "warning" not in builds[target].said.lower()


# ---------------------------------------------------------------- What is in it


def test_it_stays_under_10_mb(layer: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in layer.rglob("*"):
            archive.write(path, path.relative_to(layer.parent))
    assert len(packed.getvalue()) < LARGEST


def test_all_compiled_code_is_of_its_machine_and_runtime(layer: Path, target: str) -> None:
    compiled = [path for path in layer.rglob("*") if ".so" in path.suffixes]
    assert len(compiled) > 10
    for path in compiled:
        head = path.read_bytes()[:20]
        assert head[:4] == b"\x7fELF", path
        assert struct.unpack_from("<H", head, 18) == (ELF_MACHINES[target],), path
        if ".cpython-" in path.name:
            assert f".cpython-{RUNTIME.replace('.', '')}-{WHEEL_MACHINES[target]}-" in path.name


def test_every_distribution_is_for_any_machine_or_its_own(layer: Path, target: str) -> None:
    wheels = list(layer.glob("*.dist-info/WHEEL"))
    assert len(wheels) > 8
    for wheel in wheels:
        tags = [line.partition(": ")[2] for line in wheel.read_text().splitlines() if line.startswith("Tag: ")]
        assert tags
        assert all(tag.endswith(("-any", f"_{WHEEL_MACHINES[target]}")) for tag in tags), wheel


def test_nothing_is_in_it_that_lambda_has_or_that_a_host_left(layer: Path) -> None:
    names = {path.name for path in layer.iterdir()}
    assert names.isdisjoint({"pip", "setuptools", "bin", "awslambdaric", "tests"})
    assert not [path for path in layer.rglob("*") if path.suffix in {".pyi", ".exe", ".dylib", ".pyd"}]


def test_all_bytecode_is_the_runtimes_and_none_is_checked_against_its_source(layer: Path) -> None:
    """Checked, it would cost a stat and a read for each module of a cold start."""
    bytecode = list(layer.rglob("*.pyc"))
    if runtime_python() is None:
        assert not bytecode
        return
    assert {path.name.split(".")[-2] for path in bytecode} == {f"cpython-{RUNTIME.replace('.', '')}"}
    assert {path.read_bytes()[4:8] for path in bytecode} == {b"\x01\0\0\0"}  # PEP 552: by hash, unchecked
    sources = {path.relative_to(layer).with_suffix("") for path in layer.rglob("*.py")}
    assert {path.relative_to(layer).parent.parent / path.name.partition(".")[0] for path in bytecode} == sources
    assert b"/opt/python/voting/vote.py" in (layer / "voting/__pycache__/vote.cpython-313.pyc").read_bytes()


# ---------------------------------------------------------------- It is complete


@dataclass(frozen=True)
class Interpreter:
    python: str
    layer: Path


def runtime_python() -> str | None:
    """The interpreter that the layer is compiled with, where this machine has it."""
    done = subprocess.run(
        ["sh", "-c", f"python{RUNTIME} -c 'import sys; print(sys.executable)'"],
        env=os.environ | {"PYENV_VERSION": RUNTIME},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


@pytest.fixture(scope="module")
def interpreter(layers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """Python 3.13 with the layer; without one, this Python with a layer for its version, which the same steps make."""
    if python := runtime_python():
        return Interpreter(python, layers[architecture()])
    folder = tmp_path_factory.mktemp("host")
    done = make(folder, architecture(), RUNTIME=".".join(platform.python_version_tuple()[:2]))
    assert done.returncode == 0, done.stderr
    return Interpreter(sys.executable, folder / "python")


class Aws(BaseHTTPRequestHandler):
    """As much of Lambda and Secrets Manager as the functions call: an accepted invocation, the user of the database."""

    user: dict[str, str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        is_invocation = self.path.endswith("/invocations")
        body = b"" if is_invocation else json.dumps({"SecretString": json.dumps(self.user)}).encode()
        self.send_response(202 if is_invocation else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def aws(database_url: str) -> Iterator[str]:
    parts = urlsplit(database_url)
    Aws.user = {"username": str(parts.username), "password": str(parts.password)}
    with HTTPServer(("127.0.0.1", 0), Aws) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def drive(aws: str, redis_url: str, database_url: str) -> Callable[..., dict[str, Any]]:
    """Run a function on its event with an interpreter that sees nothing but the standard library and *folders*."""
    parts = urlsplit(database_url)
    env = {
        "POWERTOOLS_SERVICE_NAME": "test",
        "REDIS_URL": redis_url,
        "DATABASE_HOST": str(parts.hostname),
        "DATABASE_PORT": str(parts.port),
        "DATABASE_NAME": parts.path.lstrip("/"),
        "DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds",
        "COOKIE_KEYS": "only-for-the-layer-of-the-tests-0123456789",
        "HTTP_URL": "http://127.0.0.1:1",
        "WEBSOCKET_URL": "ws://127.0.0.1:1/live",
        "BROADCAST_FUNCTION": "WsBroadcastFunction",
        "AWS_ENDPOINT_URL": aws,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }

    def drive(python: str, function: str, *folders: Path) -> dict[str, Any]:
        folders = (*folders, ROOT / "functions" / function)
        done = subprocess.run(
            [python, "-I", "-S", "-B", "-c", DRIVER, json.dumps(event(EVENTS[function])), *map(str, folders)],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    return drive


@pytest.mark.parametrize("function", EVENTS)
def test_a_function_answers_with_the_layer_alone_and_misses_nothing_that_it_finds_in_whole_libraries(
    drive, interpreter: Interpreter, redis: Redis, database: psycopg.Connection, function: str
) -> None:
    """An import that fails quietly, in a `try`, shows only beside a run that has everything."""
    Subscribers(redis).add("c=")
    VoteTable(database).install()
    alone = drive(interpreter.python, function, interpreter.layer)
    assert is_well(function, alone["answer"])
    whole = drive(sys.executable, function, *(Path(path) for path in sys.path if "site-packages" in path), SOURCE)
    shipped = {path.name for path in interpreter.layer.iterdir()}  # the developers' environment holds more
    wanted = {path for path in whole["loaded"] if path.endswith(".py") and Path(path).parts[0] in shipped}
    assert len(wanted) > 30
    assert {path for path in wanted if not (interpreter.layer / path).exists()} == set()


def is_well(function: str, answer: dict[str, Any]) -> bool:
    match function:
        case "vote":
            return bool(answer["statusCode"] == 202)
        case "worker":
            return answer["superseded"] is False
        case "ws_broadcast":
            return answer == {"sent": 0, "gone": 0, "failed": 0}
        case "ops":
            return answer["ok"] is True
    return bool(answer["statusCode"] == 200)


# ---------------------------------------------------------------- What stops the build


def test_a_layer_for_another_machine_than_the_stacks_stops_the_build(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SAM), "build", "--build-dir", str(tmp_path), "--parameter-overrides", "Architecture=x86_64"],
        cwd=ROOT,
        env=os.environ | {"ARCHITECTURE": "arm64", "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "set ARCHITECTURE=x86_64 in the environment of sam build" in done.stderr


def test_an_unknown_machine_stops_the_build(tmp_path: Path) -> None:
    done = make(tmp_path, "mips")
    assert done.returncode != 0
    assert "it takes arm64 or x86_64" in done.stderr


@pytest.mark.parametrize("requirement", ["six==1.17.0", f"six==1.17.0 --hash=sha256:{64 * '0'}"])
def test_a_library_without_its_hash_stops_the_build(tmp_path: Path, requirement: str) -> None:
    shutil.copy(SOURCE / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text(f"{requirement}\n")
    done = subprocess.run(
        ["make", f"ARTIFACTS_DIR={tmp_path}/out", f"PYTHON={sys.executable}", "build-VotingLayer"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()


def test_a_part_that_an_upgrade_has_moved_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "botocore" / "data").mkdir(parents=True)
    with pytest.raises(AssertionError, match="is not there"):
        run([sys.executable, str(SOURCE / "slim.py"), str(tmp_path)])
