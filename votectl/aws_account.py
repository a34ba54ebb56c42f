"""Calls to AWS's APIs in one account and region, each of which ends within seconds."""

import os
import threading
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from votectl.aws_client import FAILURES, NO_ANSWER, NotConfigured, explain

# With a hanging endpoint a call ends after twice the patience: a throttled call deserves a second attempt.
CONNECT_S, PATIENCE_S, ATTEMPTS = 2, 4, 2
CALL_FAILURES = (*FAILURES, KeyError)  # the latter is botocore's on a page that happens to be XML
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized"}
# IAM's names where they are not SERVICE:OPERATION.
ACTIONS = {
    "apigateway:GetAccount": "apigateway:GET on /account",
    "apigatewayv2:GetDomainNames": "apigateway:GET on /domainnames",
    "s3:ListObjectsV2": "s3:ListBucket",
}
PREFIXES = {"service-quotas": "servicequotas"}
BUSY = {
    *("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"),
    *("InternalError", "InternalFailure", "ServiceException", "ServiceUnavailable", "Unavailable"),
}


class Unanswered(Exception):
    """AWS gave no answer; the message says why."""


class NotAllowed(Unanswered):
    """The identity lacks a permission; the message is IAM's name of it."""


class Refused(Unanswered):
    """AWS refused for another reason, which `code` names in AWS's words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def may_pass(error: Unanswered) -> bool:
    """Whether the same question may be answered later: AWS is busy, or something is wrong in between."""
    if isinstance(error, Refused):
        return error.code in BUSY or error.code.isdecimal()  # a number is botocore's, for a page with that status
    return not isinstance(error, NotAllowed)


class AwsAccount:
    """The account of the shell's credentials, in one region."""

    def __init__(self, region: str | None, profile: str | None, patience_s: float = PATIENCE_S) -> None:
        """Without *region* or *profile*, use the shell's. An answer may take *patience_s*.

        Raises:
            NotConfigured: no region is set, or AWS's files and variables cannot be read.
        """
        import boto3  # noqa: PLC0415 - slow to import, and not needed by the other commands

        try:
            self._session = boto3.Session(profile_name=profile)
            self.region = region or _shells_region() or self._session.region_name
            if not self.region:
                raise NotConfigured("No region is set: name one with --region, in AWS_REGION or in ~/.aws/config.")
            self.partition: str = self._session.get_partition_for_region(self.region)
        except FAILURES as error:
            raise NotConfigured(f"AWS is not set up in this shell: {explain(error)}") from error
        retries: Any = {"total_max_attempts": ATTEMPTS, "mode": "standard"}
        self._config = Config(connect_timeout=CONNECT_S, read_timeout=patience_s, retries=retries)
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()  # sessions are not thread-safe; clients are

    def ask(self, service: str, operation: str, *, region: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Return the answer of *operation* of *service*, both in boto3's spelling.

        Raises:
            Unanswered: NotAllowed, Refused, or no answer at all.
        """
        try:
            answer: dict[str, Any] = getattr(self._client(service, region or self.region), operation)(**arguments)
        except CALL_FAILURES as error:
            raise _as_ours(service, error) from error
        return answer

    def every(self, service: str, operation: str, key: str, **arguments: Any) -> list[Any]:
        """Return what all pages of the answer hold under *key*.

        Raises:
            Unanswered: as `ask` does.
        """
        try:
            pages = self._client(service, self.region).get_paginator(operation).paginate(**arguments)
            return [one for page in pages for one in page.get(key, ())]
        except CALL_FAILURES as error:
            raise _as_ours(service, error) from error

    def _client(self, service: str, region: str) -> Any:
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._session.client(service, region, config=self._config)  # type: ignore[call-overload] # the stubs know few services
            return self._clients[service, region]


def _shells_region() -> str | None:
    return os.environ.get("AWS_REGION")  # which boto3 ignores, unlike AWS's other tools


def _as_ours(service: str, error: Exception) -> Unanswered:
    if isinstance(error, KeyError):
        return Unanswered(NO_ANSWER)
    if isinstance(error, NoCredentialsError):
        return Unanswered(explain(error))
    if not isinstance(error, ClientError):
        return Unanswered(" ".join(str(error).split()) if isinstance(error, BotoCoreError) else explain(error))
    code = error.response["Error"].get("Code", "")
    if code in DENIED:
        action = f"{PREFIXES.get(service, service)}:{error.operation_name}"
        return NotAllowed(ACTIONS.get(f"{service}:{error.operation_name}", action))
    return Refused(code, explain(error))
