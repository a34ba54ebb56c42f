"""The function ops, invoked: the local run's, or a deployed one."""

import json
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from votectl.local_run import LocalRun

LOGICAL_ID = "OpsFunction"  # locally functions go by their names in the template
PATIENCE_S = 910  # the function's own timeout is 900


class NotInvoked(Exception):
    """The function did not answer; the message says why."""


class OpsFunction:
    """One function, wherever it is."""

    def __init__(self, name: str, run: LocalRun | None) -> None:
        """Invoke *name* on AWS with the shell's credentials, or on the local *run*.

        Raises:
            NotInvoked: the shell names no region.
        """
        # A repeated handover or requeueing would be confusing: one attempt.
        config = Config(read_timeout=PATIENCE_S, connect_timeout=10, retries={"total_max_attempts": 1})
        self._name = name
        if run is not None:
            self._client = boto3.client(
                "lambda",
                endpoint_url=run.invoke,
                region_name="eu-central-1",
                aws_access_key_id="local",
                aws_secret_access_key="local",  # noqa: S106 - nobody checks it there
                config=config.merge(Config(proxies={})),
            )
            return
        try:
            self._client = boto3.client("lambda", config=config)
        except BotoCoreError as error:
            raise NotInvoked(str(error)) from error

    def perform(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of *operation*, be it a typed error.

        Raises:
            NotInvoked: there is no such function, no right to invoke it, it broke off, or it is another function.
        """
        payload = json.dumps({"operation": operation, **arguments}).encode()
        try:
            answer = self._client.invoke(FunctionName=self._name, Payload=payload)
            document: Any = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError) as error:
            raise NotInvoked(str(error)) from error
        if answer.get("FunctionError"):
            raise NotInvoked(f"{document.get('errorType')}: {document.get('errorMessage')}")
        if not isinstance(document, dict) or "ok" not in document:
            raise NotInvoked(f"{self._name} does not answer as the function ops does: is it another one?")
        return document
