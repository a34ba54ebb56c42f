"""Debian's PostgreSQL: a server of an older version than the embedded one, with its extensions and with ICU."""

import os
import pwd
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pooler import answers
from tests.stack import wait_for

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "max_connections": "50"}


@contextmanager
def debian_postgres() -> Iterator[str]:
    """The URL of a server of its own, which is gone afterwards; its superuser is `postgres`."""
    with tempfile.TemporaryDirectory() as folder, serving(initialised(Path(folder))) as url:
        yield url


def program(name: str) -> Path:
    assert FOLDERS, "Debian's PostgreSQL is not installed: scripts/servers does it"
    return FOLDERS[-1] / name


def initialised(folder: Path) -> Path:
    """The data of a new server, in *folder*, which then belongs to the server's user."""
    data, password = folder / "data", folder / "password"
    password.write_text("secret\n")
    own(folder, password)
    options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--no-sync"]
    subprocess.run([program("initdb"), "-D", data, *options], env=ENV, check=True, capture_output=True, **user())
    return data


@contextmanager
def serving(data: Path, **settings: str) -> Iterator[str]:
    """Run a server on *data*, and yield its URL when it takes writes. What it says is in the file `log` beside it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = [f"--{name}={value}" for name, value in (SETTINGS | settings | {"port": str(port)}).items()]
    said = data.parent / "log"
    with said.open("wb") as log:
        process = subprocess.Popen([program("postgres"), "-D", data, *given], env=ENV, stdout=log, stderr=log, **user())
    try:
        wait_for(lambda: _is_ready(data) or process.poll() is not None, "PostgreSQL")
        assert process.poll() is None, said.read_text()
        assert answers(port)
        yield f"postgresql://postgres:secret@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(2)  # "fast": it does not wait for its clients
        process.wait(20)


def _is_ready(data: Path) -> bool:
    """By the eighth line of the file that the postmaster keeps."""
    file = data / "postmaster.pid"
    lines = file.read_text().split("\n") if file.exists() else []
    return len(lines) > 7 and lines[7].strip() == "ready"


def user() -> dict[str, int]:
    """As whom its programs run: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def own(*paths: Path) -> None:
    """Give *paths* to that user."""
    if ids := user():
        for path in paths:
            os.chown(path, ids["user"], ids["group"])
