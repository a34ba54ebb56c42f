"""A deployed stack: what it has, and an update of it that changes a few parameters and nothing else.

The update hands CloudFormation the template as `sam deploy` did. "The previous template" would be the expanded one, in
which the names of the versions are fixed: no function would publish a new one, and the aliases would keep the old
secret (https://github.com/aws/serverless-application-model/issues/2217).
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from votectl.aws_client import FAILURES, explain
from votectl.terminal import say

POLL_S = 5.0
SAY_EVERY_S = 60.0
PACKAGED = re.compile(r"""(?:Code|Content)Uri"?: *["']?s3://([^/"'\s]+)/""")  # where `sam deploy` has put the code
# The template is expanded again (SAM), and makes roles.
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
SHOWN = {"AWS::Lambda::Function", "AWS::Lambda::Alias", "Custom::Installation"}
WENT_BACK = "UPDATE_ROLLBACK_COMPLETE"


class NotUpdated(Exception):
    """The stack was not changed, or has gone back; the message says why."""


class Stack:
    """One stack of CloudFormation."""

    def __init__(self, name: str, cloudformation: Any, s3: Any) -> None:
        """*cloudformation* and *s3* are clients of these services."""
        self.name = name
        self._aws = cloudformation
        self._s3 = s3

    def resource(self, logical_id: str) -> str | None:
        """Return the physical id of a resource; None if the stack has none of that name.

        Raises:
            NotUpdated: the stack cannot be read.
        """
        try:
            found = self._aws.describe_stack_resource(StackName=self.name, LogicalResourceId=logical_id)
        except FAILURES as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] == "ValidationError":
                return None  # so CloudFormation says that there is none
            raise NotUpdated(explain(error)) from error
        one = found["StackResourceDetail"]
        return None if one["ResourceStatus"].startswith("DELETE_") else str(one["PhysicalResourceId"])

    def update(self, changes: Mapping[str, str]) -> None:
        """Deploy the stack's own template as a new release, with *changes* to its parameters; return when it is done.

        All other parameters keep their values, also those that nobody can read. What happens is printed.

        Raises:
            NotUpdated: it cannot be changed now, or the update failed and the stack went back.
        """
        before = self._describe()
        if not before["StackStatus"].endswith("_COMPLETE"):
            raise NotUpdated(f"The stack {self.name} cannot be changed now: it is {before['StackStatus']}.")
        change_set = self._prepare(before, {**changes, "Release": _new_release(before)})
        seen = {event["EventId"] for event in self._events()}
        self._call("execute_change_set", StackName=self.name, ChangeSetName=change_set)
        self._follow(seen)

    def _prepare(self, stack: Mapping[str, Any], changes: Mapping[str, str]) -> str:
        """Make a change set, and return its id once it can be executed."""
        names = [one["ParameterKey"] for one in stack.get("Parameters", [])]
        if missing := changes.keys() - set(names):
            raise NotUpdated(f"The stack {self.name} has no parameter {min(missing)}: is it another one?")
        kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in names if name not in changes]
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in changes.items()]
        made = self._call(
            "create_change_set",
            StackName=self.name,
            ChangeSetName=f"rotate-{changes['Release']}",
            ChangeSetType="UPDATE",
            TemplateURL=self._template_url(),
            Parameters=[*given, *kept],
            Capabilities=CAPABILITIES,
        )["Id"]
        while True:
            found = self._call("describe_change_set", StackName=self.name, ChangeSetName=made)
            if found["Status"] == "CREATE_COMPLETE":
                return str(made)
            if found["Status"] == "FAILED":
                raise NotUpdated(f"CloudFormation refuses the change: {found.get('StatusReason')}")
            time.sleep(POLL_S)

    def _template_url(self) -> str:
        """Put the template as it was deployed beside the code, since it is too large for a request; return where."""
        found = self._call("get_template", StackName=self.name, TemplateStage="Original")["TemplateBody"]
        text = found if isinstance(found, str) else json.dumps(found)
        packaged = PACKAGED.search(text)
        if packaged is None:
            raise NotUpdated(f"The template of {self.name} names no code in S3: was it deployed by `sam deploy`?")
        key = f"{self.name}/rotate/{hashlib.sha256(text.encode()).hexdigest()}.template"
        try:
            self._s3.put_object(Bucket=packaged[1], Key=key, Body=text.encode())
        except FAILURES as error:
            raise NotUpdated(f"The template cannot be put into {packaged[1]}: {explain(error)}") from error
        return f"{self._s3.meta.endpoint_url}/{packaged[1]}/{key}"

    def _follow(self, seen: set[str]) -> None:
        """Print what happens until the update is over."""
        began = said_at = time.monotonic()
        failures: list[str] = []
        while True:
            status = self._describe()["StackStatus"]
            for event in self._new_events(seen):
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

    def _new_events(self, seen: set[str]) -> Iterator[Mapping[str, Any]]:
        new = [event for event in self._events() if event["EventId"] not in seen]
        seen |= {event["EventId"] for event in new}
        yield from reversed(new)

    def _events(self) -> list[dict[str, Any]]:
        """The newest hundred, the newest first."""
        events: list[dict[str, Any]] = self._call("describe_stack_events", StackName=self.name)["StackEvents"]
        return events

    def _describe(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._call("describe_stacks", StackName=self.name)["Stacks"][0]
        return found

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._aws, operation)(**arguments)
        except FAILURES as error:
            raise NotUpdated(explain(error)) from error


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
