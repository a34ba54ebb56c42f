"""The functions' network interfaces, which Lambda makes, shares among functions, and removes late.

CloudFormation waits for them as well, but gives up and ends in DELETE_FAILED where they outlast its patience; subnets
and security groups cannot be deleted before. Lambda removes an interface some 20 minutes after its last user is gone,
at times after 40. A published version is a user, too: https://github.com/winglang/wing/issues/6505
"""

import time
from collections.abc import Callable
from contextlib import suppress

from votectl.aws_account import AwsAccount, Refused
from votectl.table import many

Say = Callable[[str], None]
OURS = "AWS Lambda VPC ENI"  # how Lambda describes an interface


class StillThere(Exception):
    """Network interfaces outlasted the patience; the message counts them."""


def take_out(account: AwsAccount, function: str) -> bool:
    """Take *function* out of its network, with its published versions; return whether it was in one.

    Its aliases then lead to the code that is in no network: it answers, but reaches no store.

    Raises:
        Unanswered: Lambda did not answer, or the identity may not change the function.
    """
    try:
        here = _is_inside(account.ask("lambda", "get_function_configuration", FunctionName=function))
        versions = _versions(account, function)
    except Refused as error:
        if error.code == "ResourceNotFoundException":
            return False
        raise
    if versions:
        _lead_to_latest(account, function)
    for version in versions:
        account.ask("lambda", "delete_function", FunctionName=function, Qualifier=version)
    if here:
        nowhere = {"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False}
        account.ask("lambda", "update_function_configuration", FunctionName=function, VpcConfig=nowhere)
    return here or bool(versions)


def _is_inside(configuration: dict[str, dict[str, list[str]]]) -> bool:
    return bool(configuration.get("VpcConfig", {}).get("SubnetIds"))


def _versions(account: AwsAccount, function: str) -> list[str]:
    found = account.every("lambda", "list_versions_by_function", "Versions", FunctionName=function)
    return [one["Version"] for one in found if one["Version"] != "$LATEST" and _is_inside(one)]


def _lead_to_latest(account: AwsAccount, function: str) -> None:
    """An alias holds its version fast."""
    for alias in account.every("lambda", "list_aliases", "Aliases", FunctionName=function):
        account.ask(
            "lambda",
            "update_alias",
            FunctionName=function,
            Name=alias["Name"],
            FunctionVersion="$LATEST",
            RoutingConfig={"AdditionalVersionWeights": {}},  # in the middle of a canary
        )


def wait_for_interfaces(account: AwsAccount, group: str, say: Say, patience_s: float, every_s: float) -> None:
    """Return when no network interface uses the security group *group* any more.

    An interface that Lambda has let go of is deleted here: Lambda cannot once the function's role is gone.

    Raises:
        StillThere: some were there after *patience_s*.
        Unanswered: EC2 did not answer.
    """
    began, shown = time.monotonic(), ""
    while found := _interfaces(account, group):
        for one in found:
            if one["Status"] == "available" and one.get("Description", "").startswith(OURS):
                _delete(account, one["NetworkInterfaceId"])
        left = many(len(found), "network interface")
        minutes = (time.monotonic() - began) / 60
        if time.monotonic() - began > patience_s:
            raise StillThere(f"{left} still there after {minutes:,.0f} minutes")
        if (line := f"{minutes:3,.0f} min  {left} left") != shown:
            say(line)
            shown = line
        time.sleep(every_s)


def _interfaces(account: AwsAccount, group: str) -> list[dict[str, str]]:
    filters = [{"Name": "group-id", "Values": [group]}]
    return account.every("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=filters)


def _delete(account: AwsAccount, interface: str) -> None:
    with suppress(Refused):  # it is gone, or in use again: the next look tells
        account.ask("ec2", "delete_network_interface", NetworkInterfaceId=interface)
