"""The function smoke, invoked by CodeDeploy before traffic moves: it tries the new versions and gives a verdict.

It runs outside of the VPC, so that its verdict always reaches CodeDeploy.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from voting.observability import reported
from voting.ops.lifecycle_hook import report_verdict
from voting.ops.smoke import smoke
from voting.settings import Settings


@reported
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Try the new versions, and report to CodeDeploy."""
    return {"status": report_verdict(event, lambda: smoke(Settings.from_env()))}
