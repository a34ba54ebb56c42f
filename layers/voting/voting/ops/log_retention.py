"""For how many days CloudWatch keeps log groups that another service makes."""

from collections.abc import Iterable
from contextlib import suppress

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from voting.ops.custom_resource import NotDone


def keep(groups: Iterable[str], days: int) -> None:
    """Let each of *groups* expire its lines after *days* days; make those that do not exist yet.

    Raises:
        NotDone: CloudWatch Logs refused, or did not answer.
    """
    client = boto3.client("logs", config=Config(connect_timeout=5, read_timeout=10))
    for group in groups:
        try:
            with suppress(client.exceptions.ResourceAlreadyExistsException):  # RDS was first
                client.create_log_group(logGroupName=group)
            client.put_retention_policy(logGroupName=group, retentionInDays=days)
        except (BotoCoreError, ClientError) as error:
            raise NotDone(f"The log group {group} could not be limited to {days} days ({_code(error)}).") from error


def _code(error: Exception) -> str:
    known: str = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    return known
