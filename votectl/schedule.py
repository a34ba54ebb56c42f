"""The schedule that starts the worker every minute, on AWS."""

from typing import Any, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# An update replaces the schedule whole: what it holds besides is sent back as it was.
KEPT = (
    "Description",
    "EndDate",
    "FlexibleTimeWindow",
    "KmsKeyArn",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "Target",
    "ActionAfterCompletion",
)


class ScheduleUnchanged(Exception):
    """The schedule could not be read or changed; the message says why."""


def set_state(name: str, state: Literal["ENABLED", "DISABLED"]) -> bool:
    """Enable or disable the schedule *name*, or GROUP/NAME; return whether it was otherwise.

    Raises:
        ScheduleUnchanged: there is no such schedule, or no right to change it.
    """
    group, _, bare = name.rpartition("/")
    which = {"Name": bare, "GroupName": group or "default"}
    try:
        scheduler: Any = boto3.client("scheduler")  # the stubs in use do not know this service
        found = scheduler.get_schedule(**which)
        if found["State"] == state:
            return False
        scheduler.update_schedule(**which, State=state, **{key: found[key] for key in KEPT if key in found})
    except (BotoCoreError, ClientError) as error:
        raise ScheduleUnchanged(f"the schedule {name}: {error}") from error
    return True
