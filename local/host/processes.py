"""Child processes that never outlive the runner, each the leader of its own process group."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_UNPRIVILEGED = Path(__file__).with_name("unprivileged.py")
_LONGEST_LINE = 256 * 1024


@dataclass(frozen=True, slots=True)
class User:
    """The user that a child runs as. With *reach* it may pass folders that are closed to that user."""

    uid: int = -1  # -1: the runner's own
    gid: int = -1
    reach: bool = False


SAME_USER = User()


class Child:
    """A running child process; its output is handed over line by line."""

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.Task[None]) -> None:
        self._process = process
        self._output = output

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the whole process group, including what the child started."""
        if self.running:  # its pid cannot be reused before it has been waited for
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Return the exit status (negative: the signal) once the process ended and its last lines were handed over."""
        status = await self._process.wait()
        # A grandchild may hold the pipe open forever, so the wait for the last lines is bounded.
        _, late = await asyncio.wait([self._output], timeout=0.5)
        for task in late:
            task.cancel()
        return status

    async def stop(self, number: signal.Signals, grace_s: float) -> None:
        """Send signal *number*, and kill the group if it has not ended after *grace_s*."""
        self.send(number)
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self.kill()
        await self.wait()


async def start(
    program: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: Callable[[bytes], None],
    user: User = SAME_USER,
    death_signal: signal.Signals = signal.SIGKILL,
    stdin: bytes | None = None,
) -> Child:
    """Start *program* so that it gets *death_signal* when the runner dies (Linux); to be called in the main thread.

    *output* gets every line of stdout and stderr without its end; over-long lines come in pieces.

    Raises:
        OSError: the interpreter could not be started.
    """
    read_end, write_end = os.pipe()
    guarded = [sys.executable, "-I", "-S", str(_UNPRIVILEGED), str(os.getpid()), str(int(death_signal))]
    guarded += [str(user.uid), str(user.gid), str(int(user.reach)), *program]
    try:
        process = await asyncio.create_subprocess_exec(
            *guarded,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=write_end,
            stderr=write_end,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    if process.stdin is not None:
        process.stdin.write(stdin or b"")
        process.stdin.close()
    return Child(process, asyncio.create_task(_read_lines(read_end, output)))


async def _read_lines(read_end: int, output: Callable[[bytes], None]) -> None:
    pipe = os.fdopen(read_end, "rb", 0)
    lines = _Lines(output)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: lines, pipe)
    try:
        await lines.ended
    finally:
        transport.close()


class _Lines(asyncio.Protocol):
    """Splits a pipe's output into lines. A function prints one per request, so no StreamReader in between."""

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self._output = output
        self._rest = b""
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._output(line.rstrip(b"\r"))
        if len(rest) > _LONGEST_LINE:
            self._output(rest)
            rest = b""
        self._rest = rest

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._rest:
            self._output(self._rest)
        if not self.ended.done():
            self.ended.set_result(None)
