"""Functions in containers: the real SAM CLI, its Runtime Interface Emulator, the built layer, real stores."""

import contextlib
import gc
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest

from tests.management_api import ManagementApi

ROOT = Path(__file__).parents[2]
SAM = Path(sys.executable).with_name("sam")
TIMEOUT_S = 180
IP_FREEBIND = 15  # Linux: the bridge may get its address only with its first container
COOKIE_KEYS = "only-for-the-containers-of-the-tests-0123456789"


@dataclass(frozen=True)
class Engine:
    """A container engine, and how its containers reach this machine."""

    gateway: str
    host: str

    def seen_from_inside(self, url: str, port: int) -> str:
        """*url* with the host and *port* that a container uses."""
        parts = urlsplit(url)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return parts._replace(netloc=f"{user}{self.host}:{port}").geturl()


@pytest.fixture(scope="session")
def engine() -> Engine:
    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        with warnings.catch_warnings():  # docker-py leaves the socket of its failed request to the collector
            warnings.simplefilter("ignore", ResourceWarning)
            error.__cause__ = error.__context__ = None
            gc.collect()
        reason = f"no container engine answers (start Docker, or name another engine in DOCKER_HOST): {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    networks = {network.name: network for network in client.networks.list()}
    gateway = networks["bridge"].attrs["IPAM"]["Config"][0]["Gateway"]
    is_podman = any(part["Name"] == "Podman Engine" for part in client.version().get("Components", []))
    client.close()
    return Engine(gateway, "host.containers.internal" if is_podman else gateway)


class Bridge:
    """Lets containers reach ports of 127.0.0.1, by listening on the engine's bridge address and nowhere else."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._servers: list[socketserver.ThreadingTCPServer] = []

    def open(self, port: int) -> int:
        """Forward to *port* of 127.0.0.1; return the port to use on the bridge."""

        class Forward(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", port)) as there:
                    back = threading.Thread(target=_copy, args=(there, self.request))
                    back.start()
                    _copy(self.request, there)
                    back.join()

        server = socketserver.ThreadingTCPServer((self._gateway, 0), Forward, bind_and_activate=False)
        self._servers.append(server)
        server.socket.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        server.server_bind()
        server.server_activate()
        threading.Thread(target=server.serve_forever).start()
        return server.server_address[1]

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either side may be gone
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="session")
def bridge(engine: Engine) -> Iterator[Bridge]:
    bridge = Bridge(engine.gateway)
    yield bridge
    bridge.close()


@pytest.fixture(scope="session")
def management_api() -> Iterator[ManagementApi]:
    api = ManagementApi(lambda _id, _posts: 200)
    yield api
    api.close()


@pytest.fixture(scope="session")
def build(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sam build`, into a folder of its own."""
    folder = tmp_path_factory.mktemp("build")
    sam("build", "--build-dir", str(folder), "--parameter-overrides", "Architecture=x86_64")
    return folder


@pytest.fixture(scope="session")
def invoke(
    engine: Engine,
    bridge: Bridge,
    build: Path,
    redis_url: str,
    database_url: str,
    management_api: ManagementApi,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], Any]:
    """`sam local invoke FUNCTION -e events/EVENT.json`; the parsed answer."""
    inside = {
        name: engine.seen_from_inside(url, bridge.open(int(urlsplit(url).port or 0)))
        for name, url in {
            "RedisUrl": redis_url,
            "DatabaseUrl": database_url,
            "WEBSOCKET_URL": f"ws://127.0.0.1:{management_api.port}/live",
        }.items()
    }
    # What the template reckons from the two APIs is not there on a laptop.
    variables = {
        "WEBSOCKET_URL": inside.pop("WEBSOCKET_URL"),
        "HTTP_URL": "https://a1b2c3d4.execute-api.eu-central-1.amazonaws.com",
    }
    env_file = tmp_path_factory.mktemp("env") / "env.json"
    env_file.write_text(json.dumps({"Parameters": variables}))
    parameters = inside | {"Architecture": "x86_64", "CookieKeys": COOKIE_KEYS}

    def run(function: str, event: str) -> Any:
        output = sam(
            "local",
            "invoke",
            function,
            "--template",
            str(build / "template.yaml"),
            "--event",
            str(ROOT / "events" / f"{event}.json"),
            "--env-vars",
            str(env_file),
            "--skip-pull-image",
            "--parameter-overrides",
            *(f"{name}={value}" for name, value in parameters.items()),
        )
        return json.loads(output.strip().splitlines()[-1])

    return run


def sam(*arguments: str) -> str:
    """Run the SAM CLI in the repository; its standard output."""
    done = subprocess.run(
        [str(SAM), *arguments],
        cwd=ROOT,
        env=os.environ | {"ARCHITECTURE": "x86_64", "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"sam {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
