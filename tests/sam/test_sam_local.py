"""`make sam-invoke`: a container on the stores of a running `make up`, and what it says where something is missing."""

import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from scripts.sam_local import ROOT, Bridge, Engine, architecture, is_current
from voting.queue.queue_view import VOTES


def make(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`make sam-invoke` with the virtual environment that runs this test."""
    own = (f"VENV={Path(sys.executable).parents[1]}", "ARGS=")  # ARGS: those of a `make test` are for pytest
    return subprocess.run(
        ["make", "--silent", "sam-invoke", *own, *words],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


class WayOut(socketserver.TCPServer):
    """A proxy that lets nobody through, and remembers who asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[object] = []

    def verify_request(self, *request: object) -> bool:
        self.asked.append(request)
        return False


@pytest.fixture
def way_out() -> Iterator[WayOut]:
    with WayOut() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_one_command_runs_a_function_on_the_stores_of_a_run_and_asks_nothing_of_aws(
    engine, build: Path, run_file: Path, redis: Redis, way_out: WayOut
) -> None:
    words = (f"STATE_DIR={run_file.parent}", f"SAM_BUILD={build}", "FUNCTION=VoteFunction")
    done = make(*words, "EVENT=events/http-post-form.json", HTTPS_PROXY=way_out.url, https_proxy=way_out.url)
    assert done.returncode == 0, done.stderr
    assert way_out.asked == [], "somebody asked AWS"
    assert json.loads(done.stdout.strip().splitlines()[-1])["statusCode"] == 303
    assert redis.llen(VOTES) == 1
    assert urlpassword(run_file) not in done.stdout + done.stderr


def urlpassword(run_file: Path) -> str:
    return str(json.loads(run_file.read_text())["redis"].split(":")[2].split("@")[0])


def test_without_an_engine_it_says_what_to_start(run_file: Path) -> None:
    words = (f"STATE_DIR={run_file.parent}", "FUNCTION=VoteFunction", "EVENT=http-post-json")
    done = make(*words, DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode != 0
    assert "start Docker or Podman" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("left", [None, {"pid": 2**22 + 1}])  # more than Linux ever gives
def test_without_a_run_it_says_what_to_start(engine, tmp_path: Path, left: dict[str, int] | None) -> None:
    """Also where one was killed and left its file behind."""
    if left:
        (tmp_path / "run.json").write_text(json.dumps(left))
    done = make(f"STATE_DIR={tmp_path}", "FUNCTION=VoteFunction", "EVENT=http-post-json")
    assert done.returncode != 0
    assert "start it with `make up`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [(), ("FUNCTION=VoteFunction",), ("EVENT=http-post-json",)])
def test_what_is_not_named_is_asked_for(words: tuple[str, ...]) -> None:
    done = make(*words)
    assert done.returncode != 0
    assert "make sam-invoke FUNCTION=VoteFunction EVENT=http-post-json" in done.stderr


def test_a_build_is_used_until_its_sources_change(build: Path, tmp_path: Path) -> None:
    assert not is_current(tmp_path, architecture())
    copy = tmp_path / "build"
    shutil.copytree(build, copy)
    (copy / "template.yaml").touch()
    assert is_current(copy, architecture())
    assert not is_current(copy, "arm64" if architecture() == "x86_64" else "x86_64")
    os.utime(copy / "template.yaml", (0, 0))
    assert not is_current(copy, architecture())


def test_stores_elsewhere_keep_their_address() -> None:
    with Bridge(Engine("127.0.0.1", "host.docker.internal", frozenset())) as bridge:
        assert bridge.seen_from_inside("redis://:pw@cache.example.org:6379/0") == "redis://:pw@cache.example.org:6379/0"
        assert bridge.seen_from_inside("redis://:pw@127.0.0.1:7/0") == "redis://:pw@host.docker.internal:7/0"


def test_a_broken_aws_configuration_does_not_reach_sam(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[broken", encoding="utf-8")
    code = (
        "import sys, pathlib; from scripts.sam_local import SAM, _run\n"
        "sys.exit(_run([str(SAM), 'validate', '--lint'], pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"HOME": str(tmp_path), "AWS_PROFILE": "nosuch", "AWS_MAX_ATTEMPTS": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
