"""Invocations of the function ops, locally or deployed."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from votectl.local_run import LocalRun

LOGICAL_ID = "OpsFunction"  # local functions are named by their logical ids
WHICH = "The stack's output OpsFunctionName is its name. Is the region the stack's?"
PATIENCE_S = 910  # the function's own timeout is 900
Invoked = tuple[bytes, str | None]  # payload, and the kind of error if there is one


class NotInvoked(Exception):
    """The function did not respond; the message says why."""


class OpsFunction:
    """The function ops of one stack."""

    def __init__(self, name: str, run: LocalRun | None) -> None:
        """Invoke *name* on AWS with the shell's credentials, or on the local *run* with its own.

        Raises:
            NotInvoked: AWS is not set up in this shell.
        """
        self._name = name
        self._invoke = _deployed(name) if run is None else partial(_invoke_locally, run, name)

    def perform(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to *operation*, which may be a typed error.

        Raises:
            NotInvoked: the function is missing, forbidden, failed, or is not the function ops.
        """
        payload, error = self._invoke(json.dumps({"operation": operation, **arguments}).encode())
        try:
            document: Any = json.loads(payload)
        except ValueError:  # from another server
            document = None
        if isinstance(document, dict) and error:
            raise NotInvoked(f"{document.get('errorType')}: {document.get('errorMessage')}")
        if not isinstance(document, dict) or "ok" not in document:
            raise NotInvoked(f"{self._name} does not answer like the function ops: is it another function?")
        return document


def _invoke_locally(run: LocalRun, name: str, payload: bytes) -> Invoked:
    """Invoke by plain HTTP: an AWS client would read the shell's AWS files and proxies, and fail on them."""
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - slow to import, and not needed by demo and loadtest
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    url = f"{run.invoke}/2015-03-31/functions/{name}/invocations"
    try:
        request = urllib.request.Request(url, payload)  # noqa: S310 - the address is from run.json; this raises if it is malformed
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
    from botocore.config import Config  # noqa: PLC0415 - slow to import, and not needed locally

    from votectl.aws_client import FAILURES, NotConfigured, client, explain  # noqa: PLC0415

    # One attempt: a repeated handover or requeue would be confusing.
    config = Config(read_timeout=PATIENCE_S, connect_timeout=10, retries={"total_max_attempts": 1})
    try:
        functions = client("lambda", config)
    except NotConfigured as error:
        raise NotInvoked(str(error)) from error

    def invoke(payload: bytes) -> Invoked:
        try:
            answer = functions.invoke(FunctionName=name, Payload=payload)
            return answer["Payload"].read(), answer.get("FunctionError")
        except functions.exceptions.ResourceNotFoundException as error:
            raise NotInvoked(f"{explain(error)} {WHICH}") from error
        except FAILURES as error:
            raise NotInvoked(explain(error)) from error

    return invoke
