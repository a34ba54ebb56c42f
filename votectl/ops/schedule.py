"""The EventBridge schedule that starts the worker every minute."""

from typing import Literal

# An update replaces the whole schedule, so these are sent back unchanged.
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
    """Enable or disable the schedule *name*, or GROUP/NAME; return whether that changed it.

    Raises:
        ScheduleUnchanged: the schedule does not exist, or may not be changed.
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
