"""One start of an execution environment: from the exec of awslambdaric to the response to its first event."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.awslambda.runtime_api import Invocation, RuntimeApi

TIMEOUT_S = 60.0
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:f"


class StartFailed(Exception):
    """The handler did not respond to its first event; the message is its output."""


@dataclass(frozen=True, slots=True)
class Start:
    """A function on disk, and its first event."""

    folder: Path  # with app.py
    packages: tuple[Path, ...]  # folders with its libraries
    variables: Mapping[str, str]
    event: bytes
    timeout_s: float = 30.0  # the time that the handler sees as remaining

    def measure(self) -> float:
        """Milliseconds from the exec to the response.

        Raises:
            StartFailed: the handler raised, or the process ended.
        """
        return asyncio.run(self._measure())

    async def _measure(self) -> float:
        runtime = _Runtime(self)
        api = RuntimeApi(runtime)
        runtime.api = api
        address = await api.open()
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "awslambdaric", "app.handler"),
            cwd=self.folder,
            env=self._environment(address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        ended = asyncio.create_task(process.wait())
        await asyncio.wait((runtime.answered, ended), timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        took_s = runtime.answered_at - started
        if not ended.done():
            process.kill()
        said, _ = await process.communicate()
        await ended
        api.close()
        if not runtime.answered.done() or runtime.answered.result() is not None:
            raise StartFailed(f"{runtime.answered.result() if runtime.answered.done() else ''} {said.decode()}")
        return took_s * 1000

    def _environment(self, address: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, (*self.packages, self.folder))),
            "PYTHONDONTWRITEBYTECODE": "1",  # what has no bytecode is compiled at each start, as on AWS
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "LAMBDA_TASK_ROOT": str(self.folder),
            "_HANDLER": "app.handler",
            **self.variables,
        }


class _Runtime:
    """Sends the event and notes the time of the response; `answered` holds None, or the error."""

    api: RuntimeApi

    def __init__(self, start: Start) -> None:
        self._start = start
        self.answered: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.answered_at = 0.0

    def asked_for_next(self) -> None:
        if not self.answered.done():
            deadline_ms = int((time.time() + self._start.timeout_s) * 1000)
            self.api.send(Invocation("8476a536-e9f4-11e8-9739-2dfe598c3fcd", self._start.event, deadline_ms, ARN, ""))

    def responded(self, request_id: str, body: bytes) -> None:  # noqa: ARG002 - the protocol's signature
        self._finish(None)

    def response_too_large(self, request_id: str) -> None:
        self._finish(f"the answer to {request_id} is too large")

    def failed(self, request_id: str, body: bytes) -> None:  # noqa: ARG002
        self._finish(body.decode())

    def init_failed(self, body: bytes) -> None:
        self._finish(body.decode())

    def _finish(self, failure: str | None) -> None:
        if not self.answered.done():
            self.answered_at = time.perf_counter()
            self.answered.set_result(failure)
