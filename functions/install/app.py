"""The function install, invoked by CloudFormation: it lets ops prepare the database, and limits the database's logs.

It runs outside of the VPC, so that its response always reaches CloudFormation.
"""

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from voting.observability import reported
from voting.ops.custom_resource import fulfil
from voting.ops.log_retention import keep
from voting.ops.ops_invocation import install_through
from voting.settings import Settings


def install(_properties: Mapping[str, Any]) -> None:
    install_through(Settings.from_env().ops_function)


def limit_logs(properties: Mapping[str, Any]) -> None:
    keep(properties["LogGroups"], int(properties["Days"]))  # CloudFormation sends numbers as text


WORK = {"Custom::Installation": install, "Custom::LogRetention": limit_logs}


@reported
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Do the work of the resource, and report to CloudFormation."""
    return {"status": fulfil(event, lambda: WORK[event["ResourceType"]](event["ResourceProperties"]))}
