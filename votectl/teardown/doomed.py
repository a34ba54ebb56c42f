"""The parts of a stack that stand in the way of its deletion."""

from collections.abc import Sequence
from dataclasses import dataclass

from votectl.aws_account import AwsAccount, Refused
from votectl.deployed_stack import DeployedStack, Resource, resources

FUNCTION, DATABASE, GROUP = "AWS::Lambda::Function", "AWS::RDS::DBInstance", "FunctionSecurityGroup"


@dataclass(frozen=True, slots=True)
class Doomed:
    """A stack that is to be deleted."""

    stack: DeployedStack
    functions: Sequence[str]
    group: str  # the security group of the functions' network interfaces; empty if there is none
    protected: Sequence[str]  # databases that RDS refuses to delete


def doomed(account: AwsAccount, stack: DeployedStack) -> Doomed:
    """Look at what of *stack* is there still.

    Raises:
        Unanswered: AWS did not answer.
    """
    there = [one for one in resources(account, stack) if one.id and one.status != "DELETE_COMPLETE"]
    groups = [one.id for one in there if one.name == GROUP]
    return Doomed(
        stack,
        [one.id for one in there if one.kind == FUNCTION],
        groups[0] if groups else "",
        [one.id for one in there if one.kind == DATABASE and _is_protected(account, one)],
    )


def _is_protected(account: AwsAccount, database: Resource) -> bool:
    try:
        (found,) = account.ask("rds", "describe_db_instances", DBInstanceIdentifier=database.id)["DBInstances"]
    except Refused as error:
        if error.code.startswith("DBInstanceNotFound"):
            return False
        raise
    return bool(found.get("DeletionProtection"))
