"""The schedule that starts the worker every minute, on AWS."""

from typing import Literal

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
    from votectl.aws_client import FAILURES, NotConfigured, client, explain  # noqa: PLC0415 - only a deployed stack has one

    try:
        scheduler = client("scheduler")
        found = scheduler.get_schedule(**which)
        if found["State"] == state:
            return False
        scheduler.update_schedule(**which, State=state, **{key: found[key] for key in KEPT if key in found})
    except NotConfigured as error:
        raise ScheduleUnchanged(str(error)) from error
    except FAILURES as error:
        raise ScheduleUnchanged(f"the schedule {name}: {explain(error)}") from error
    return True
