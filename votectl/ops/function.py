"""The function ops, invoked: the local run's, or a deployed one."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from votectl.local_run import LocalRun

LOGICAL_ID = "OpsFunction"  # locally functions go by their names in the template
PATIENCE_S = 910  # the function's own timeout is 900
Invoked = tuple[bytes, str | None]  # the payload, and what kind of error it is


class NotInvoked(Exception):
    """The function did not answer; the message says why."""


class OpsFunction:
    """One function, wherever it is."""

    def __init__(self, name: str, run: LocalRun | None) -> None:
        """Invoke *name* on AWS with the shell's credentials, or on the local *run* with its own.

        Raises:
            NotInvoked: AWS is not set up in this shell.
        """
        self._name = name
        self._invoke = _deployed(name) if run is None else partial(_invoke_locally, run, name)

    def perform(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of *operation*, be it a typed error.

        Raises:
            NotInvoked: there is no such function, no right to invoke it, it broke off, or it is another function.
        """
        payload, error = self._invoke(json.dumps({"operation": operation, **arguments}).encode())
        try:
            document: Any = json.loads(payload)
        except ValueError:  # another server
            document = None
        if isinstance(document, dict) and error:
            raise NotInvoked(f"{document.get('errorType')}: {document.get('errorMessage')}")
        if not isinstance(document, dict) or "ok" not in document:
            raise NotInvoked(f"{self._name} does not answer as the function ops does: is it another one?")
        return document


def _invoke_locally(run: LocalRun, name: str, payload: bytes) -> Invoked:
    """Invoke by plain HTTP: a client of AWS's would read the shell's files and proxies, and break on them."""
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - demo and loadtest need none of it
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    url = f"{run.invoke}/2015-03-31/functions/{name}/invocations"
    try:
        request = urllib.request.Request(url, payload)  # noqa: S310 - from run.json; first, since it checks the address
        signed = AWSRequest("POST", url, data=payload)
        SigV4Auth(Credentials(*run.credentials), "lambda", run.region).add_auth(signed)
        request.headers.update(signed.headers.items())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE_S) as response:
            return response.read(), response.headers.get("X-Amz-Function-Error")
    except urllib.error.HTTPError as error:
        with error:
            raise NotInvoked(_reason(error)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotInvoked(f"{run.invoke} does not answer: {error}. Does `make up` still run?") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["Message"])
    except (ValueError, KeyError, TypeError):
        return f"the answer is {error.code} {error.reason}"


def _deployed(name: str) -> Callable[[bytes], Invoked]:
    from botocore.config import Config  # noqa: PLC0415 - the local run needs none of it

    from votectl.aws_client import FAILURES, NotConfigured, client, explain  # noqa: PLC0415

    # A repeated handover or requeueing would be confusing: one attempt.
    config = Config(read_timeout=PATIENCE_S, connect_timeout=10, retries={"total_max_attempts": 1})
    try:
        functions = client("lambda", config)
    except NotConfigured as error:
        raise NotInvoked(str(error)) from error

    def invoke(payload: bytes) -> Invoked:
        try:
            answer = functions.invoke(FunctionName=name, Payload=payload)
            return answer["Payload"].read(), answer.get("FunctionError")
        except FAILURES as error:
            raise NotInvoked(explain(error)) from error

    return invoke
