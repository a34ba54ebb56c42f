"""`sam local` on the stores of a running `make up`, as used by `make sam-invoke`.

    python scripts/sam_local.py invoke VoteFunction --event http-post-json
    python scripts/sam_local.py start-api --port 3010

Arguments after the command go to `sam local`. The stores listen on 127.0.0.1, which inside a container is the container
itself. So while the command runs, their ports and that of the WebSocket API are also open on the engine's bridge
address, and nowhere else. The stores require their passwords there too; the functions get them from a file that only
its owner can read.
"""

import argparse
import contextlib
import json
import os
import platform
import secrets
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import docker  # type: ignore[import-untyped] # ships no types
from docker.errors import DockerException  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
KEPT_OF_AWS = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION"})
SAM = Path(sys.executable).with_name("sam")
RUNTIME = "python:3.13"
# Only a stack on existing stores declares the variables set below; these addresses are not used.
EXISTING_STORES = ("RedisUrl=redis://local", "DatabaseUrl=postgresql://local", "Egress=nat")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
IP_FREEBIND = 15  # Linux: the bridge may have no address before its first container
MACHINES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "arm64",
    "arm64": "arm64",
}  # Lambda's names


class Unable(Exception):
    """The command cannot run; the message says what to do."""


# ---------------------------------------------------------------- The container engine and its bridge


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine: how its containers reach this machine, and which images it has."""

    gateway: str  # address of this machine that containers reach; 127.0.0.1 if the engine forwards to it
    host: str  # name of that address inside a container
    images: frozenset[str]

    @classmethod
    def find(cls) -> "Engine":
        """Ask the engine that DOCKER_HOST names, or else the default Docker.

        Raises:
            Unable: no engine responds.
        """
        try:
            client = docker.from_env()
            with contextlib.closing(client):
                is_podman = any(part["Name"] == "Podman Engine" for part in client.version().get("Components", []))
                images = frozenset(tag for image in client.images.list() for tag in image.tags)
                if sys.platform != "linux":  # the engine runs in a virtual machine, whose bridge has no address here
                    return cls("127.0.0.1", "host.docker.internal", images)
                (bridge,) = (network for network in client.networks.list() if network.name == "bridge")
                gateway = bridge.attrs["IPAM"]["Config"][0]["Gateway"]
        except DockerException as error:
            raise Unable(
                f"no container engine responds: start Docker or Podman, or set DOCKER_HOST ({error})"
            ) from None
        return cls(gateway, "host.containers.internal" if is_podman else gateway, images)


class Bridge:
    """Forwards ports of the engine's bridge address to 127.0.0.1, so that containers reach them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._servers: list[socketserver.ThreadingTCPServer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def seen_from_inside(self, url: str) -> str:
        """Return *url* as a container uses it; the address of a remote store stays unchanged."""
        parts = urlsplit(url)
        if parts.hostname not in LOOPBACK or parts.port is None:
            return url
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return parts._replace(netloc=f"{user}{self._engine.host}:{self._open(parts.port)}").geturl()

    def _open(self, port: int) -> int:
        """Forward to *port* of 127.0.0.1; return the port to use."""
        if self._engine.gateway in LOOPBACK:
            return port

        class Forward(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as there:
                    back = threading.Thread(target=_copy, args=(there, self.request))
                    back.start()
                    _copy(self.request, there)
                    back.join()

        server = socketserver.ThreadingTCPServer((self._engine.gateway, 0), Forward, bind_and_activate=False)
        server.daemon_threads = True  # a killed container may leave its connection half open
        self._servers.append(server)
        server.socket.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        server.server_bind()
        server.server_activate()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return int(server.server_address[1])


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either side may have closed
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


# ---------------------------------------------------------------- The variables of the functions


def read_run(path: Path) -> dict[str, Any]:
    """Read the run.json of the running system.

    Raises:
        Unable: nothing runs.
    """
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        os.kill(run["pid"], 0)
    except (FileNotFoundError, ProcessLookupError):
        raise Unable(f"nothing runs here ({path}): start it with `make up` in another terminal") from None
    return run


@contextmanager
def variables(run: Mapping[str, Any], bridge: Bridge) -> Iterator[Path]:
    """Write a file for `--env-vars`; `sam local` sets those that the template declares for a function."""
    values = {
        "REDIS_URL": bridge.seen_from_inside(run["redis"]),
        "DATABASE_URL": bridge.seen_from_inside(run["postgres"]),
        "WEBSOCKET_URL": bridge.seen_from_inside(run["websocket"]),
        "HTTP_URL": run["http"],
        "COOKIE_KEYS": secrets.token_hex(32),
    }
    with tempfile.TemporaryDirectory(prefix="sam-local-") as folder:  # mode 0700
        file = Path(folder) / "variables.json"
        file.write_text(json.dumps({"Parameters": values}), encoding="utf-8")
        yield file


# ---------------------------------------------------------------- The build


def architecture() -> str:
    """Lambda's name for the architecture of this machine: other containers run slowly or not at all."""
    return MACHINES[platform.machine().lower()]


def is_current(build: Path, target: str) -> bool:
    """Whether *build* has a layer for *target* that is newer than its sources; functions need no build."""
    template = build / "template.yaml"
    if not (template.exists() and any(build.glob(f"VotingLayer/python/psycopg_binary/*{_machine(target)}*.so"))):
        return False
    sources = (path for path in (ROOT / "layers").rglob("*") if path.is_file() and path.suffix != ".pyc")
    newest = max(path.stat().st_mtime for path in (ROOT / "template.yaml", *sources))
    return newest < template.stat().st_mtime


def _machine(target: str) -> str:
    return "aarch64" if target == "arm64" else target


def build_for(target: str, build: Path) -> None:
    """Build into *build*, not into the folder of `sam deploy`, which needs the architecture of the stack.

    Raises:
        Unable: the build failed and has printed why.
    """
    overrides = ("--parameter-overrides", f"Architecture={target}")
    done = subprocess.run(
        [str(SAM), "build", "--build-dir", str(build), *overrides],
        cwd=ROOT,
        env=os.environ | {"ARCHITECTURE": target, "SAM_CLI_TELEMETRY": "0"},
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise Unable("the build failed")


# ---------------------------------------------------------------- The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sam local`; return its exit code, or 1 if it could not start."""
    parser = argparse.ArgumentParser(description="Run `sam local` on the stores of a running `make up`.")
    parser.add_argument("--run", type=Path, default=Path(".local/run.json"), help="run.json of `make up` (%(default)s)")
    parser.add_argument("--build", type=Path, default=Path(".aws-sam/local"), help="folder to build in (%(default)s)")
    parser.add_argument("command", choices=("invoke", "start-lambda", "start-api"))
    options, rest = parser.parse_known_args(arguments)
    try:
        return run_sam(options.command, rest, options.run, options.build.absolute())
    except Unable as error:
        sys.stderr.write(f"sam_local: {error}\n")
        return 1


def run_sam(command: str, rest: Sequence[str], run_file: Path, build: Path) -> int:
    """Build if necessary, open the bridge, and run `sam local` until it ends."""
    engine = Engine.find()
    run = read_run(run_file)
    target = architecture()
    if not is_current(build, target):
        build_for(target, build)
    with ExitStack() as stack:
        bridge = stack.enter_context(Bridge(engine))
        file = stack.enter_context(variables(run, bridge))
        image = f"public.ecr.aws/lambda/{RUNTIME}-{target}"
        options = ["--template", str(build / "template.yaml"), "--env-vars", str(file)]
        options += ["--skip-pull-image"] if image in engine.images else []
        options += ["--parameter-overrides", f"Architecture={target}", *EXISTING_STORES]
        return _run([str(SAM), "local", command, *_with_event_files(rest), *options], file.parent)


def _with_event_files(rest: Sequence[str]) -> list[str]:
    """Replace the name of one of our events by its file, unless a file of that name exists."""
    files = {path.stem: str(path) for path in (ROOT / "events").glob("*.json")}
    return [
        files.get(word, word) if before in {"-e", "--event"} and not Path(word).exists() else word
        for before, word in zip(["", *rest], rest, strict=False)
    ]


def _run(arguments: Sequence[str], scratch: Path) -> int:
    """Run a program until it ends, and pass SIGTERM on to it."""
    # If SAM is killed while it builds an image, it leaves a lock in the temporary folder and waits for it next time.
    scratch_env = {"TMPDIR": str(scratch)}
    # No AWS credentials of the shell, so that no function reaches an account. No other AWS settings either: SAM fails
    # on a missing profile or a syntax error in ~/.aws/config.
    kept = {name: value for name, value in os.environ.items() if name in KEPT_OF_AWS or not name.startswith("AWS_")}
    mine = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    mine |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "SAM_CLI_TELEMETRY": "0"}
    # SAM would ask STS for the account and retry for seconds; without an answer it uses a default.
    mine |= {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    kept.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    # SAM gives a container 20 s to listen; with eight busy processes per core it took 42 s.
    kept.setdefault("SAM_CLI_CONTAINER_CONNECTION_TIMEOUT", "60")
    child = subprocess.Popen(arguments, cwd=ROOT, env=kept | mine | scratch_env)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the program too, which cleans up and ends
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
