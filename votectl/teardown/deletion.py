"""The deletion of a stack, watched until its end."""

import time
from collections.abc import Callable, Iterator

from votectl.aws_account import AwsAccount
from votectl.deployed_stack import DeployedStack, failed, find_stack, resources

Say = Callable[[str], None]


class NotDeleted(Exception):
    """CloudFormation gave up; the message names what it could not delete."""


def unprotect(account: AwsAccount, database: str) -> None:
    """Let RDS delete *database*.

    Raises:
        Unanswered: RDS refused.
    """
    account.ask(
        "rds", "modify_db_instance", DBInstanceIdentifier=database, DeletionProtection=False, ApplyImmediately=True
    )


def delete(account: AwsAccount, stack: DeployedStack, say: Say, every_s: float) -> None:
    """Delete *stack*, or watch its deletion if it is under way, and tell of each resource that is gone.

    Raises:
        NotDeleted: it ended in DELETE_FAILED.
        Unanswered: CloudFormation did not answer.
    """
    told = {event["EventId"] for event in _events(account, stack)}
    if stack.status != "DELETE_IN_PROGRESS":
        account.ask("cloudformation", "delete_stack", StackName=stack.id)
    began = time.monotonic()
    while True:
        now = find_stack(account, stack.id)
        for event in _events(account, stack):
            if event["EventId"] not in told:
                told.add(event["EventId"])
                for line in _told(event):
                    say(f"{(time.monotonic() - began) / 60:3,.0f} min  {line}")
        if now is None or now.status == "DELETE_COMPLETE":
            return
        if now.status == "DELETE_FAILED":
            raise NotDeleted(failed(resources(account, now)) or now.reason or now.status)
        time.sleep(every_s)


def _events(account: AwsAccount, stack: DeployedStack) -> list[dict[str, str]]:
    """The newest events, oldest first: one page, which a deletion does not fill between two looks."""
    newest: list[dict[str, str]] = account.ask("cloudformation", "describe_stack_events", StackName=stack.id)[
        "StackEvents"
    ]
    return newest[::-1]


def _told(event: dict[str, str]) -> Iterator[str]:
    if event["ResourceStatus"] in {"DELETE_COMPLETE", "DELETE_FAILED", "DELETE_SKIPPED"}:
        reason = event.get("ResourceStatusReason", "")
        yield " ".join(filter(None, [event["ResourceStatus"], event.get("LogicalResourceId"), reason]))
