"""A deployed stack: what it has, and an update of it that changes a few parameters and nothing else.

The update hands CloudFormation the template as `sam deploy` did. "The previous template" would be the expanded one, in
which the names of the versions are fixed: no function would publish a new one, and the aliases would keep the old
secret (https://github.com/aws/serverless-application-model/issues/2217).
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from votectl.aws_account import AwsAccount, NotAllowed, Refused, Unanswered
from votectl.terminal import say

POLL_S = 5.0
SAY_EVERY_S = 60.0
MOST_SILENT_POLLS = 60  # in a row, before an update is left alone
PACKAGED = re.compile(r"""(?:Code|Content)Uri"?: *["']?s3://([^/"'\s]+)/""")  # where `sam deploy` has put the code
# The template is expanded again (SAM), and makes roles.
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
SHOWN = {"AWS::Lambda::Function", "AWS::Lambda::Alias", "Custom::Installation"}
WENT_BACK = "UPDATE_ROLLBACK_COMPLETE"


class NotUpdated(Exception):
    """The stack was not changed, or has gone back; the message says why."""


def sentence(error: Unanswered) -> str:
    """What *error* means for the person who asked."""
    return f"The permission {error} is missing." if isinstance(error, NotAllowed) else str(error)


class Stack:
    """One stack of CloudFormation."""

    def __init__(self, name: str, account: AwsAccount) -> None:
        self.name = name
        self.account = account

    def resource(self, logical_id: str) -> str | None:
        """Return the physical id of a resource; None if the stack has none of that name.

        Raises:
            Unanswered: CloudFormation did not answer.
        """
        try:
            found = self._ask("describe_stack_resource", LogicalResourceId=logical_id)
        except Refused as error:
            if error.code == "ValidationError":  # so CloudFormation says that there is none
                return None
            raise
        one = found["StackResourceDetail"]
        return None if one["ResourceStatus"].startswith("DELETE_") else str(one["PhysicalResourceId"])

    def update(self, changes: Mapping[str, str]) -> None:
        """Deploy the stack's own template as a new release, with *changes* to its parameters; return when it is done.

        All other parameters keep their values, also those that nobody can read. What happens is printed.

        Raises:
            NotUpdated: it cannot be changed now, or the update failed and the stack went back.
            Unanswered: AWS did not answer; an update that has begun goes on.
        """
        try:
            change_set = self._prepare(changes)
            seen = {event["EventId"] for event in self._events()}
        except Unanswered as error:
            raise NotUpdated(f"The stack was not changed. {sentence(error)}") from error
        self._ask("execute_change_set", ChangeSetName=change_set)
        self._follow(seen)

    def _prepare(self, given: Mapping[str, str]) -> str:
        """Make a change set, and return its id once it can be executed."""
        stack = self._describe()
        if not stack["StackStatus"].endswith("_COMPLETE"):
            raise NotUpdated(f"The stack {self.name} cannot be changed now: it is {stack['StackStatus']}.")
        changes = {**given, "Release": _new_release(stack)}
        names = [one["ParameterKey"] for one in stack.get("Parameters", [])]
        if missing := changes.keys() - set(names):
            raise NotUpdated(f"The stack {self.name} has no parameter {min(missing)}: is it another one?")
        kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in names if name not in changes]
        changed = [{"ParameterKey": name, "ParameterValue": value} for name, value in changes.items()]
        made = self._ask(
            "create_change_set",
            ChangeSetName=f"rotate-{changes['Release']}",
            ChangeSetType="UPDATE",
            TemplateURL=self._template_url(),
            Parameters=[*changed, *kept],
            Capabilities=CAPABILITIES,
        )["Id"]
        while True:
            found = self._ask("describe_change_set", ChangeSetName=made)
            if found["Status"] == "CREATE_COMPLETE":
                return str(made)
            if found["Status"] == "FAILED":
                raise NotUpdated(f"CloudFormation refuses the change: {found.get('StatusReason')}")
            time.sleep(POLL_S)

    def _template_url(self) -> str:
        """Put the template as it was deployed beside the code, since it is too large for a request; return where."""
        found = self._ask("get_template", TemplateStage="Original")["TemplateBody"]
        text = found if isinstance(found, str) else json.dumps(found)
        packaged = PACKAGED.search(text)
        if packaged is None:
            raise NotUpdated(f"The template of {self.name} names no code in S3: was it deployed by `sam deploy`?")
        key = f"{self.name}/rotate/{hashlib.sha256(text.encode()).hexdigest()}.template"
        self.account.ask("s3", "put_object", Bucket=packaged[1], Key=key, Body=text.encode())
        suffix = ".cn" if self.account.partition == "aws-cn" else ""
        return f"https://s3.{self.account.region}.amazonaws.com{suffix}/{packaged[1]}/{key}"

    def _follow(self, seen: set[str]) -> None:
        """Print what happens until the update is over."""
        began = said_at = time.monotonic()
        failures: list[str] = []
        while True:
            status, events = self._look(seen)
            for event in events:
                line = f"{event['LogicalResourceId']}: {event['ResourceStatus']}"
                if event["ResourceStatus"].endswith("_FAILED"):
                    failures.append(f"{line}: {event.get('ResourceStatusReason')}")
                if event["ResourceType"] in SHOWN or event["ResourceStatus"].endswith("_FAILED"):
                    said_at = time.monotonic()
                    say(f"  {said_at - began:5.0f} s  {line}")
            if status == "UPDATE_COMPLETE":
                return
            if not status.endswith("_IN_PROGRESS"):
                raise NotUpdated(_regret(self.name, status, failures))
            if time.monotonic() - said_at >= SAY_EVERY_S:
                said_at = time.monotonic()
                say(f"  {said_at - began:5.0f} s  {status}")
            time.sleep(POLL_S)

    def _look(self, seen: set[str]) -> tuple[str, list[dict[str, Any]]]:
        """Return the status, and the events that are not in *seen*, the oldest first.

        Raises:
            Unanswered: for many times in a row.
        """
        for _ in range(MOST_SILENT_POLLS):
            try:
                status: str = self._describe()["StackStatus"]
                new = [event for event in self._events() if event["EventId"] not in seen]
            except Unanswered as error:
                last = error
                time.sleep(POLL_S)
            else:
                seen |= {event["EventId"] for event in new}
                return status, new[::-1]
        raise Unanswered(f"The update goes on, but AWS does not answer: {last}. Look for its end in CloudFormation.")

    def _events(self) -> list[dict[str, Any]]:
        """The newest hundred, the newest first."""
        events: list[dict[str, Any]] = self._ask("describe_stack_events")["StackEvents"]
        return events

    def _describe(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._ask("describe_stacks")["Stacks"][0]
        return found

    def _ask(self, operation: str, **arguments: Any) -> Any:
        return self.account.ask("cloudformation", operation, StackName=self.name, **arguments)


def _new_release(stack: Mapping[str, Any]) -> str:
    """The time in seconds since the epoch, as `make deploy` gives it, and in no case that of last time."""
    values = [one["ParameterValue"] for one in stack.get("Parameters", []) if one["ParameterKey"] == "Release"]
    last = values[0] if values and values[0].isdecimal() else "0"
    return str(max(int(time.time()), int(last) + 1))


def _regret(name: str, status: str, failures: list[str]) -> str:
    went = (
        "The update failed, and the stack has its former values again."
        if status == WENT_BACK
        else f"The update failed, and the stack {name} is {status}: find the cause in its events, then "
        f"`aws cloudformation continue-update-rollback --stack-name {name}`."
    )
    return "\n  ".join([went, *failures])
