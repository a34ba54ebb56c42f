"""Starts and watches the embedded stores, restarts them on their port, and stops them by hand to try out failures."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from local.host.processes import Child
from local.host.state_dir import StateDir

START_TIMEOUT_S = 60.0  # recovery after a crash included
STOP_TIMEOUT_S = 10.0
RESTART_AFTER_S = 5.0
_POLL_S = 0.02

_log = logging.getLogger("local.stores")


class StoreError(Exception):
    """A store cannot be started; the message ends with its last output."""


class Server(Protocol):
    """A program that serves one store from a folder of the state directory."""

    name: str  # as in run.json: "redis", "postgres"
    title: str
    stop_signal: signal.Signals

    def url(self, port: int) -> str: ...

    async def prepare(self) -> None:
        """End what an earlier run left running, and create the data if there is none."""

    async def launch(self, port: int, output: Callable[[bytes], None]) -> Child: ...

    async def answers(self, child: Child, port: int) -> bool:
        """Tell whether it accepts commands yet."""


class Store:
    """One embedded store. It keeps its port for the life of the run, and across runs if the port is free."""

    def __init__(self, server: Server, state: StateDir) -> None:
        self.name = server.name
        self.title = server.title
        self.port = 0
        self._server = server
        self._state = state
        self._child: Child | None = None
        self._last_output: deque[str] = deque(maxlen=20)
        self._watcher: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._changing = asyncio.Lock()  # the watcher and a person may start or stop it at the same time

    @property
    def url(self) -> str:
        return self._server.url(self.port)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    async def start(self) -> None:
        """Return when the store answers.

        Raises:
            StoreError: it does not come up.
        """
        await self._server.prepare()
        self.port = _free_port(self._state.port(self.name))
        self._state.keep_port(self.name, self.port)
        self._wanted.set()
        await self._start()
        self._watcher = asyncio.create_task(self._watch())

    async def hold(self) -> None:
        """Stop it until `release`, to try out its failure."""
        self._wanted.clear()
        _log.warning("%s is stopped by hand", self.title)
        async with self._changing:
            await self._stop()

    async def release(self) -> None:
        """Start it again after `hold`, or at once after it died; return when it answers.

        Raises:
            StoreError: it does not come up.
        """
        async with self._changing:
            if self.pid is None:
                if await answers(self.port):
                    raise StoreError(f"something else answers on port {self.port}")
                await self._start()
                _log.warning("%s is started by hand", self.title)
            self._wanted.set()

    async def close(self) -> None:
        """Stop it for good."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await self._stop()

    async def _start(self) -> None:
        self._last_output.clear()
        child = self._child = await self._server.launch(self.port, self._hear)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while child.running:
                    if await self._server.answers(child, self.port):
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await self._stop()
            raise StoreError(self._complaint(f"did not answer within {START_TIMEOUT_S:.0f} s")) from None
        except asyncio.CancelledError:
            await self._stop()
            raise
        status = await child.wait()
        raise StoreError(self._complaint(f"ended with status {status}"))

    async def _stop(self) -> None:
        if self._child is not None and self._child.running:
            await self._child.stop(self._server.stop_signal, STOP_TIMEOUT_S)

    async def _watch(self) -> None:
        while True:
            await self._wanted.wait()
            if self._child is not None and self._child.running:
                status = await self._child.wait()
                if self._wanted.is_set():
                    _log.error("%s DIED (status %d): it starts again in %.0f s", self.title, status, RESTART_AFTER_S)
            await asyncio.sleep(RESTART_AFTER_S)
            async with self._changing:
                if self._wanted.is_set() and self.pid is None:
                    await self._restart()

    async def _restart(self) -> None:
        if await answers(self.port):  # another program has taken the port: leave it alone
            _log.debug("something answers on port %d: %s stays down", self.port, self.title)
            return
        try:
            await self._start()
        except StoreError as error:
            _log.error("%s", error)  # its last output says more than our stack trace
        else:
            _log.warning("%s is back on port %d", self.title, self.port)

    def _hear(self, line: bytes) -> None:
        self._last_output.append(line.decode(errors="replace"))

    def _complaint(self, what: str) -> str:
        return "\n  ".join([f"{self.title} {what}", *self._last_output])


async def answers(port: int) -> bool:
    """Tell whether anything listens on the port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def stop_leftover(pid: int | None, folder: Path) -> bool:
    """End the process of an earlier run, if *pid* is still one that works in *folder*; tell whether it was.

    The pid alone proves nothing: another process may have it by now.
    """
    if not pid or not _works_in(pid, folder):
        return False
    _log.warning("a store of an earlier run (pid %d) still runs: it is stopped", pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        for _ in range(150):
            if not _works_in(pid, folder):
                return True
            await asyncio.sleep(_POLL_S)
    raise StoreError(f"process {pid} of an earlier run did not end")


def _works_in(pid: int, folder: Path) -> bool:
    """Tell whether the process has *folder* as its working directory, as both stores do with their data."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
        except OSError:  # it has ended, or it belongs to another user
            return False
    listed = subprocess.run(
        ["lsof", "-a", "-p", str(pid), "-d", "cwd", "-Fn"], capture_output=True, text=True, check=False
    )
    return f"n{folder.resolve()}" in listed.stdout.splitlines()


def _free_port(wish: int | None) -> int:
    for port in ([wish] if wish else []) + [0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StoreError("no port is free")
