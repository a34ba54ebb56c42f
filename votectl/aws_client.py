"""Clients of AWS's own APIs, configured by the shell."""

import os
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError
from botocore.parsers import ResponseParserError

# A broken configuration raises any of these, some only at the first call: that is when botocore reads files and runs
# programs for credentials, and it does not wrap their errors.
FAILURES = (BotoCoreError, ClientError, ResponseParserError, OSError, ValueError)
NO_ANSWER = "what answers is not AWS: is a proxy or a captive portal in between?"
_WHERE_TO_LOOK = (
    "It was set up by the variables AWS_… and …_PROXY (`env | grep -i -e AWS_ -e _PROXY`) and the files ~/.aws/config "
    "and ~/.aws/credentials; `aws sts get-caller-identity` tries them."
)
NO_REGION = "No region is set: name one in AWS_REGION or in ~/.aws/config."
NO_CREDENTIALS = (
    "Unable to locate credentials: run `aws configure`, or name a profile of ~/.aws/config in AWS_PROFILE, or set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)


class NotConfigured(Exception):
    """No client can be created; the message says why, and where to look."""


def client(service: str, config: Config | None = None) -> Any:
    """Return a client of *service* with the shell's credentials, region and profile.

    Raises:
        NotConfigured: the AWS variables or files refer to something missing, or cannot be read.
    """
    import boto3  # noqa: PLC0415 - slow to import, and not needed for the local run

    try:
        # Unlike the other AWS tools, boto3 ignores AWS_REGION.
        return boto3.client(service, os.environ.get("AWS_REGION") or None, config=config)  # type: ignore[call-overload] # the stubs know few services
    except FAILURES as error:
        raise NotConfigured(f"AWS is not set up in this shell: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Render *error* in one line, and say where to look unless it is a response from AWS."""
    if isinstance(error, NoRegionError):
        return NO_REGION
    if isinstance(error, NoCredentialsError):
        return NO_CREDENTIALS
    if isinstance(error, ResponseParserError):  # which holds the whole page
        return f"{NO_ANSWER} {_WHERE_TO_LOOK}"
    words = " ".join(str(error).split()) or type(error).__name__
    said = words if words.endswith((".", "!", "?")) else f"{words}."
    return said if isinstance(error, ClientError) else f"{said} {_WHERE_TO_LOOK}"
