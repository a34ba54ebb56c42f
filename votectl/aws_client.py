"""Clients of AWS's own APIs, as the shell describes them."""

import os
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# A broken configuration shows as any of these, some of them only at the first call: files are read and programs for
# credentials are run then, and their errors come as they are.
FAILURES = (BotoCoreError, ClientError, OSError, ValueError)
_WHERE_TO_LOOK = (
    "It was set up by the variables AWS_… and …_PROXY (`env | grep -i -e AWS_ -e _PROXY`) and the files ~/.aws/config "
    "and ~/.aws/credentials; `aws sts get-caller-identity` tries them."
)


class NotConfigured(Exception):
    """No client can be built; the message says why, and where to look."""


def client(service: str, config: Config | None = None) -> Any:
    """Return a client of *service* with the shell's credentials, region and profile.

    Raises:
        NotConfigured: its AWS variables or files name what is not there, or cannot be read.
    """
    import boto3  # noqa: PLC0415 - what talks to the local run needs none of it

    try:
        # boto3 alone of AWS's tools does not know AWS_REGION.
        return boto3.client(service, os.environ.get("AWS_REGION") or None, config=config)  # type: ignore[call-overload] # the stubs know few services
    except FAILURES as error:
        raise NotConfigured(f"AWS is not set up in this shell: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Say in one line what *error* says, and where to look unless AWS itself said it."""
    words = " ".join(str(error).split()) or type(error).__name__
    said = words if words.endswith((".", "!", "?")) else f"{words}."
    return said if isinstance(error, ClientError) else f"{said} {_WHERE_TO_LOOK}"
