"""The function install, invoked by CloudFormation before each deployment: it lets ops prepare the database.

It runs outside of the VPC, so that its response always reaches CloudFormation.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from voting.observability import reported
from voting.ops.custom_resource import fulfil
from voting.ops.ops_invocation import install_through
from voting.settings import Settings


@reported
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Install, and report to CloudFormation."""
    return {"status": fulfil(event, lambda: install_through(Settings.from_env().ops_function))}
