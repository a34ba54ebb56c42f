"""The system under test: `python -m local` on the proxies, and the processes of its functions."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped] # it ships no types

from tests.chaos.patience import until
from tests.signature import Signature
from tests.stack import DECLARED, FREE_PORTS, ROOT

START_WITHIN_S = 90.0
STOP_WITHIN_S = 30.0
GONE_WITHIN_S = 10.0
WORKER, VOTE, BROADCAST = "WorkerFunction", "VoteFunction", "WsBroadcastFunction"
SCHEDULED = ROOT / "events" / "schedule.json"


class Stack:
    """A running system. Function processes are known by what Lambda tells them of themselves: their environment."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._log_file = state_dir.with_name(f"{state_dir.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.AsyncClient(trust_env=False, timeout=30)
        self._names: dict[int, str] = {}
        self.http = self.websocket = self._lambda = ""

    @property
    def log(self) -> str:
        return self._log_file.read_text(errors="replace")

    async def start(self, settings: Mapping[str, str]) -> None:
        """Return when everything answers; *settings* are the variables of the functions.

        Raises:
            Impatient, AssertionError: it did not come up.
        """
        environment = {name: value for name, value in os.environ.items() if name not in DECLARED}
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it starts a program, and waits for nothing
                [sys.executable, "-m", "local", *FREE_PORTS, "--no-reload", "--state-dir", str(self._state_dir)],
                cwd=ROOT,
                env={**environment, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        run_file = self._state_dir / "run.json"
        await until(lambda: run_file.exists() or not self.running, "run.json", START_WITHIN_S)
        assert self.running, f"python -m local ended:\n{self.log}"
        run = json.loads(run_file.read_text())
        self.http, self.websocket, self._lambda = run["http"], run["websocket"], run["lambda"]
        self._client.auth = Signature(run)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def stop(self) -> None:
        """Stop it as Ctrl-C does; kill it where that takes too long."""
        await self._client.aclose()
        if self._process is None or not self.running:
            return
        for pid in self.functions(WORKER):
            self.signal(pid, signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        try:
            await until(lambda: not self.running, "python -m local to stop", STOP_WITHIN_S)
        finally:
            if self.running:
                self._process.kill()
            self._process.wait()

    async def run_worker(self, event: Mapping[str, Any] | None = None) -> None:
        """Invoke the worker as the schedule does: asynchronously, so this returns at once."""
        payload = SCHEDULED.read_bytes() if event is None else json.dumps(event).encode()
        answer = await self._client.post(
            f"{self._lambda}/2015-03-31/functions/{WORKER}/invocations",
            content=payload,
            headers={"X-Amz-Invocation-Type": "Event"},
        )
        assert answer.status_code == 202, answer.text

    async def operate(self, operation: str) -> dict[str, Any]:
        """What the function ops answers, as to an operator."""
        answer = await self._client.post(
            f"{self._lambda}/2015-03-31/functions/OpsFunction/invocations", json={"operation": operation}
        )
        return dict(answer.raise_for_status().json())

    async def results(self) -> dict[str, Any]:
        answer = await self._client.get(f"{self.http}/api/results")
        return dict(answer.raise_for_status().json())

    def functions(self, name: str) -> list[int]:
        """The processes of the function *name*."""
        assert self._process is not None
        found = []
        for child in psutil.Process(self._process.pid).children():
            if child.pid not in self._names:
                with contextlib.suppress(
                    psutil.Error, KeyError
                ):  # it has just ended, or is about to be what it will be
                    self._names[child.pid] = child.environ()["AWS_LAMBDA_FUNCTION_NAME"]
            if self._names.get(child.pid) == name and alive(child.pid):
                found.append(child.pid)
        return found

    def owner(self, port: int, name: str) -> int | None:
        """The process of the function *name* that has the TCP *port* open; None where it has gone."""
        return next((pid for pid in self.functions(name) if port in ports_of(pid)), None)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Signal a function's process; nothing happens where it has gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    async def kill(self, pid: int) -> None:
        """End a function's process without warning; return when it has gone."""
        self.signal(pid, signal.SIGKILL)
        await until(lambda: not alive(pid), f"process {pid} to end", GONE_WITHIN_S)
        self._names.pop(pid, None)


def ports_of(pid: int) -> set[int]:
    """The local TCP ports that the process has open."""
    try:
        return {connection.laddr.port for connection in psutil.Process(pid).net_connections("tcp") if connection.laddr}
    except psutil.Error:
        return set()


def alive(pid: int) -> bool:
    """Whether the process is there and more than a number that waits for its parent."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
