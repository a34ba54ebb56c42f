"""One execution environment: a process of AWS's own runtime interface client, serving one request at a time."""

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from local.awslambda.invocation import Answer
from local.awslambda.runtime_api import MAX_RESPONSE, Invocation, RuntimeApi
from local.host.processes import Child, start
from local.template.account import Account
from local.template.resources import Function

# AWS gives an init 10 s; a laptop that starts several at once gets more.
INIT_TIMEOUT_S = 30.0
# The version that really runs: the runtime client behaves as it does on AWS for this version.
_EXECUTION_ENV = f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}"
_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_PASSED_ON = ("PATH", "LANG", "TZ")
# As on AWS, where a function has no home folder. A developer's home has settings for the clients of AWS and PostgreSQL:
# with them, a client could fail to start, or call the real AWS.
_NO_HOME = "/nonexistent"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What all execution environments of a run share."""

    account: Account
    lambda_url: str = ""  # where a function's own Lambda client finds the Invoke API
    output: Callable[[str, bytes], None] = lambda _name, _line: None
    shell: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def variables(self, function: Function, runtime_api: str) -> dict[str, str]:
        """Return the whole environment of a process: Lambda's variables, then what the template declares."""
        variables = {name: self.shell[name] for name in _PASSED_ON if name in self.shell}
        variables |= {
            "HOME": _NO_HOME,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ACCESS_KEY_ID": self.account.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.account.secret_access_key,
            "AWS_SESSION_TOKEN": self.account.session_token,
            "AWS_REGION": self.account.region,
            "AWS_DEFAULT_REGION": self.account.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_EXECUTION_ENV": _EXECUTION_ENV,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"local/[$LATEST]{uuid.uuid4().hex}",
            "AWS_LAMBDA_LOG_FORMAT": function.log_format,
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "AWS_XRAY_SDK_ENABLED": "false",
            "AWS_XRAY_CONTEXT_MISSING": "IGNORE_ERROR",
            "LAMBDA_TASK_ROOT": str(function.code),
            "_HANDLER": function.handler,
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in (*function.layers, function.code)),
        }
        if self.lambda_url:
            variables["AWS_ENDPOINT_URL_LAMBDA"] = self.lambda_url
        return variables | dict(function.environment)


class Owner(Protocol):
    """Hands requests to an environment; called in the event loop."""

    def idle(self, environment: "Environment") -> None:
        """The environment has initialised or finished a request, and takes the next one."""

    def gone(self, environment: "Environment", init_error: Answer | None) -> None:
        """The process has ended; *init_error* is set if its init failed."""


class Environment:
    """A process of AWS's runtime client (bootstrap.py), from its init to its end. It is started by `start`."""

    def __init__(self, function: Function, sandbox: Sandbox, owner: Owner) -> None:
        self.function = function
        self.idle_since = 0.0  # loop time
        self.retired = False  # its code is outdated: the owner stops it instead of giving it more requests
        self._sandbox = sandbox
        self._owner = owner
        self._api = RuntimeApi(self)
        self._child: Child | None = None
        self._life: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._invocation: Invocation | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._initialised = False
        self._init_error: Answer | None = None
        self._stopping = False
        self._ended: Answer | None = None

    @property
    def said_why(self) -> bool:
        """Whether its init ended in a reported error or over its time; else its process just ended."""
        return self._init_error is not None

    def start(self) -> None:
        """Begin the init; the owner is called at its end."""
        self._life = asyncio.create_task(self._live(), name=f"environment of {self.function.name}")

    def invoke(self, request_id: str, payload: bytes) -> asyncio.Future[Answer]:
        """Handle one event while idle; the answer comes at the latest after the function's timeout."""
        loop = asyncio.get_running_loop()
        timeout_s = self.function.timeout_s
        self._invocation = Invocation(
            request_id=request_id,
            payload=payload,
            deadline_ms=int((time.time() + timeout_s) * 1000),
            function_arn=self._sandbox.account.function_arn(self.function.name),
            trace_id=f"Root=1-{int(time.time()):08x}-{request_id.replace('-', '')[:24]};Sampled=0",
        )
        self._answer = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._time_out)
        answer = self._answer
        if self._ended is not None:  # between two iterations of the event loop
            self._finish(self._ended)
        else:
            self._api.send(self._invocation)  # not parked: its process has just died, and `_end` answers
        return answer

    async def stop(self) -> None:
        """Kill the process and wait for its end; a request under way is answered with an exit error."""
        self._stopping = True
        if self._child is not None:
            self._child.kill()
        if self._life is not None:
            await asyncio.wait([self._life])

    # ------------------------------------------------------------ what the process does (runtime_api.Runtime)

    def asked_for_next(self) -> None:
        if not self._initialised:
            self._initialised = True
            self._cancel_timer()
        if self._answer is not None:  # it asks for the next event without an answer: none will come
            self._finish(
                _failure("Runtime.InvalidStateTransition", f"RequestId: {self._request_id()} Error: no answer")
            )
        self._invocation = None
        self.idle_since = asyncio.get_running_loop().time()
        self._owner.idle(self)

    def responded(self, request_id: str, body: bytes) -> None:
        if request_id == self._request_id():
            self._finish(Answer(body))

    def response_too_large(self, request_id: str) -> None:
        if request_id == self._request_id():
            message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
            self._finish(_failure("Function.ResponseSizeTooLarge", message))

    def failed(self, request_id: str, body: bytes) -> None:
        if request_id == self._request_id():
            self._finish(Answer(body, "Unhandled"))

    def init_failed(self, body: bytes) -> None:
        self._init_error = Answer(body, "Unhandled")

    # ------------------------------------------------------------ its life

    async def _live(self) -> None:
        status = 1
        try:
            address = await self._api.open()
            self._child = await start(
                [sys.executable, "-P", str(_BOOTSTRAP), self.function.handler],
                env=self._sandbox.variables(self.function, address),
                cwd=self.function.code,
                output=lambda line: self._sandbox.output(self.function.name, line),
            )
            self._timer = asyncio.get_running_loop().call_later(INIT_TIMEOUT_S, self._time_out)
            if self._stopping:
                self._child.kill()
            status = await self._child.wait()
        except OSError as error:  # no such folder, no more processes or files
            self._init_error = _failure("Runtime.InvalidEntrypoint", str(error))
        finally:
            self._api.close()
            self._cancel_timer()
            self._end(status)

    def _end(self, status: int) -> None:
        exit_error = _failure("Runtime.ExitError", f"RequestId: {self._request_id()} Error: {_describe(status)}")
        self._ended = exit_error
        if self._answer is not None:
            if not self._stopping:
                self._say(exit_error)
            self._finish(exit_error)
        self._owner.gone(self, None if self._initialised else self._init_error or exit_error)

    def _time_out(self) -> None:
        timeout_s = self.function.timeout_s if self._initialised else INIT_TIMEOUT_S
        message = f"RequestId: {self._request_id()} Error: Task timed out after {timeout_s:.2f} seconds"
        failure = _failure("Sandbox.Timedout", message)
        self._say(failure)
        if self._initialised:
            self._finish(failure)
        else:
            self._init_error = failure
        if self._child is not None:
            self._child.kill()

    def _finish(self, answer: Answer) -> None:
        self._cancel_timer()
        future, self._answer = self._answer, None
        if future is not None and not future.done():  # done: its caller has gone
            future.set_result(answer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _request_id(self) -> str:
        return self._invocation.request_id if self._invocation is not None else ""

    def _say(self, failure: Answer) -> None:
        """Log what the process can no longer log itself."""
        self._sandbox.output(self.function.name, json.dumps({"level": "ERROR", **json.loads(failure.payload)}).encode())


def _failure(kind: str, message: str) -> Answer:
    return Answer(json.dumps({"errorType": kind, "errorMessage": message}).encode(), "Unhandled")


def _describe(status: int) -> str:
    if status == 0:
        return "Runtime exited without providing a reason"
    if status < 0:
        return f"Runtime exited with error: signal: {(signal.strsignal(-status) or str(-status)).lower()}"
    return f"Runtime exited with error: exit status {status}"
