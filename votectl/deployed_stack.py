"""A stack as CloudFormation describes it."""

from collections.abc import Mapping
from dataclasses import dataclass

from votectl.aws_account import AwsAccount, Refused, Unanswered
from votectl.aws_client import NO_ANSWER


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a stack."""

    name: str  # logical id
    kind: str
    id: str  # physical id; empty before there is one
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack that exists, or did until a moment ago."""

    name: str
    id: str  # its ARN, which finds it after it is gone, too
    status: str
    reason: str
    is_protected: bool  # against deletion as a whole
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def is_in_progress(self) -> bool:
        """Whether CloudFormation works on it. With REVIEW_IN_PROGRESS it waits for us instead."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"


def find_stack(account: AwsAccount, name_or_id: str) -> DeployedStack | None:
    """Return the stack, or None if there is none.

    Raises:
        Unanswered: CloudFormation did not answer.
    """
    try:
        stacks = account.ask("cloudformation", "describe_stacks", StackName=name_or_id).get("Stacks")
    except Refused as error:
        if error.code == "ValidationError":  # so CloudFormation says that there is none
            return None
        raise
    if not stacks:
        raise Unanswered(NO_ANSWER)
    found = stacks[0]
    return DeployedStack(
        found["StackName"],
        found["StackId"],
        found["StackStatus"],
        found.get("StackStatusReason", ""),
        found.get("EnableTerminationProtection", False),
        {one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", ())},
        {one["OutputKey"]: one.get("OutputValue", "") for one in found.get("Outputs", ())},
    )


def resources(account: AwsAccount, stack: DeployedStack) -> list[Resource]:
    """Return the resources of *stack*, those that are gone included.

    Raises:
        Unanswered: CloudFormation did not answer.
    """
    found = account.every("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack.id)
    return [
        Resource(
            one["LogicalResourceId"],
            one["ResourceType"],
            one.get("PhysicalResourceId", ""),
            one["ResourceStatus"],
            one.get("ResourceStatusReason", ""),
        )
        for one in found
    ]


def failed(found: list[Resource]) -> str:
    """Name the resources that failed, each with CloudFormation's reason."""
    return "; ".join(
        f"{one.name}: {' '.join(one.reason.split()) or one.status}" for one in found if one.status.endswith("_FAILED")
    )
