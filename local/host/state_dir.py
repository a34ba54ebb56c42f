"""The state directory: what one run keeps for the next, and the lock that shows that it is running."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from local.host.ownership import Foreign, open_own, require_own_folder

_MARKER = ".local-run"
_MARKER_TEXT = "Made by `python -m local`, which may delete this folder (--reset).\n"


class StateError(Exception):
    """The directory cannot be used; the message says why."""


class AlreadyRunning(StateError):
    """Another run holds the directory."""


class StateDir:
    """One folder with a marker, a lock, `run.json` while a run is up, secrets and ports, and the stores' data."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    def is_ours(self) -> bool:
        marker = self.path / _MARKER
        return marker.is_file() and not marker.is_symlink()

    def open(self) -> None:
        """Create the folder if need be, and take its lock for the life of this process.

        Raises:
            AlreadyRunning: another run has it; the message has its pid and addresses.
            StateError: it is not a folder, holds files that are not ours or that others can write to, cannot be
                written, or no database can be created there.
        """
        if {"\n", "\r"} & set(str(self.path)):  # initdb refuses them
            raise StateError(f"{str(self.path)!r} has a line break in its name; name another folder with --state-dir")
        with self._telling():
            self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
            require_own_folder(self.path)
            if not self.is_ours():
                if any(self.path.iterdir()):
                    raise StateError(f"{self.path} holds other files; name a folder of its own with --state-dir")
                with (self.path / _MARKER).open("x", encoding="utf-8") as marker:
                    marker.write(_MARKER_TEXT)
            self._require_own_files()
            lock = self._open_lock(os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyRunning(self._describe_run()) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        self.run_file.unlink(missing_ok=True)  # of a run that was killed

    def close(self) -> None:
        """Remove `run.json` and release the lock."""
        if self._lock is not None:
            self.run_file.unlink(missing_ok=True)
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def retire(self) -> None:
        """Remove `run.json`, and release the lock at the end of the process: its next holder finds no process left."""
        if self._lock is not None:
            os.dup(self._lock.fileno())  # never closed on purpose: a lock lives as long as its last descriptor
        self.run_file.unlink(missing_ok=True)

    def holder(self) -> int | None:
        """Return the pid of the run that holds the folder.

        Raises:
            StateError: it is not a folder, may not be read, or belongs to another user, whose pid is not trusted.
        """
        try:
            with self._telling():
                require_own_folder(self.path)
                lock = self._open_lock()
        except FileNotFoundError:
            return None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _pid(lock.read())
        return None

    def wait_released(self, timeout_s: float) -> bool:
        """Wait until no run holds the folder."""
        deadline = time.monotonic() + timeout_s
        while self.holder() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def forget(self) -> bool:
        """Delete the folder; return False if there is none.

        Raises:
            StateError: it is not ours, a link, or may not be deleted.
        """
        with self._telling():
            if not self.path.exists():
                return False
            if not self.is_ours():
                raise StateError(f"{self.path} was not made by `python -m local`; it is left alone")
            if self.path.is_symlink():
                raise StateError(f"{self.path} is a symbolic link; name the folder itself with --state-dir")
            require_own_folder(self.path)
            shutil.rmtree(self.path)
        return True

    # ------------------------------------------------------------ what is kept

    def folder(self, name: str, mode: int) -> Path:
        """Return the folder of this name, which is created if need be.

        Raises:
            StateError: it is a link, another user's, or others can write to it.
        """
        path = self.path / name
        with self._telling():
            path.mkdir(mode=mode, exist_ok=True)
            if path.is_symlink():
                raise StateError(f"{path} is a symbolic link; delete it, or name another folder with --state-dir")
            require_own_folder(path)
        return path

    def announce(self, run: Mapping[str, Any]) -> None:
        """Write `run.json`, once everything answers."""
        self._write("run.json", run)

    def run(self) -> dict[str, Any]:
        """Return the content of `run.json`; empty if no run is up."""
        return self._read("run.json")

    def secret(self, name: str, length: int = 32, former: str | None = None) -> str:
        """Return the secret of this name, generated at its first use.

        One that an earlier version generated under the name *former* stays, whatever its length: the voters' cookies
        that it signed stay valid.
        """
        known = self._read("secrets.json")
        inherited = known.get(former or "") or None
        secret = known.get(name) or inherited or ""
        if len(secret) < length and secret != inherited:
            secret = secrets.token_hex((length + 1) // 2)
        if secret != known.get(name):
            self._write("secrets.json", known | {name: secret})
        return str(secret)

    def port(self, name: str) -> int | None:
        """Return the port that this name had in the last run."""
        port = self._read("ports.json").get(name)
        return None if port is None else int(port)

    def keep_port(self, name: str, port: int) -> None:
        self._write("ports.json", self._read("ports.json") | {name: port})

    def _open_lock(self, flags: int = 0) -> IO[str]:
        return os.fdopen(open_own(self.path / "lock", os.O_RDWR | flags), "r+", encoding="ascii", errors="replace")

    def _require_own_files(self) -> None:
        """Check what an earlier run left before any of it is used, including run.json, which is replaced."""
        for name in ("secrets.json", "ports.json", "run.json"):
            with contextlib.suppress(FileNotFoundError), self._telling():
                os.close(self._open_kept(name))

    def _open_kept(self, name: str) -> int:
        return open_own(self.path / name, os.O_RDONLY, is_secret=name != "ports.json")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Name the folder in every failure; a missing file is not a failure yet."""
        try:
            yield
        except Foreign as error:
            raise StateError(str(error)) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unusable(error) from error

    def _describe_run(self) -> str:
        run = self.run()
        urls = "".join(f"\n  {name:10} {run[name]}" for name in ("http", "websocket", "lambda") if name in run)
        return f"an instance already runs on {self.path} (pid {self.holder() or 'unknown'}){urls or ', still starting'}"

    def _unusable(self, error: OSError) -> StateError:
        return StateError(f"the state directory {self.path} cannot be used: {error.strerror}")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            with self._telling(), os.fdopen(self._open_kept(name), encoding="utf-8") as file:
                content = json.load(file)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StateError(
                f"{self.path / name} is incomplete; --reset stops the run and deletes the folder"
            ) from error
        return content if isinstance(content, dict) else {}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace the file at once, readable by its owner only: a reader never sees half of it."""
        new = self.path / f".{name}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        new.replace(self.path / name)


def _pid(text: str) -> int:
    """Return the pid in the lock file; 0 if it is empty or not a pid."""
    return int(text) if text.isascii() and text.isdecimal() and int(text) > 1 else 0
