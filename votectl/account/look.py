"""What the checks of an account look at: its APIs, the stack that is or is to be, and the stack's parameters."""

from collections.abc import Mapping
from dataclasses import dataclass

from votectl.aws_account import AwsAccount
from votectl.deployed_stack import DeployedStack

# In these states a stack holds nothing that a next deployment could build on.
WITHOUT_CONTENT = {"REVIEW_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"}
MASKED = "****"  # how CloudFormation shows a NoEcho parameter, an empty one included
NONE = "none"  # as good as empty: `sam deploy --guided` takes no empty answer for a secret
NO_VPC = "vpc-00000000"  # the template's default


@dataclass(frozen=True, slots=True)
class Look:
    """The account and what is to be deployed into it."""

    account: AwsAccount
    name: str
    stack: DeployedStack | None
    parameters: Mapping[str, str]

    @property
    def is_first(self) -> bool:
        """Whether the deployment creates everything, so that quotas must have room for it."""
        return self.stack is None or self.stack.status in WITHOUT_CONTENT

    @property
    def has_new_stores(self) -> bool:
        """Whether the stack makes its network and its stores."""
        return not self["RedisUrl"] and self["VpcId"] in {"", NO_VPC}

    @property
    def makes_stores(self) -> bool:
        """Whether this deployment makes them."""
        return self.is_first and self.has_new_stores

    def __getitem__(self, parameter: str) -> str:
        """The value that *parameter* will have; empty where the template has none, or where it is `none`."""
        value = self.parameters.get(parameter, "")
        return "" if value == NONE else value


def effective(defaults: Mapping[str, str], stack: DeployedStack | None, given: Mapping[str, str]) -> Mapping[str, str]:
    """The parameters of a deployment: those given, else the stack's own, which SAM keeps, else the template's."""
    kept = stack.parameters if stack else {}
    return {**defaults, **{name: value for name, value in kept.items() if value != MASKED}, **given}
