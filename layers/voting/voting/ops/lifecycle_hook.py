"""A hook of CodeDeploy: the event names a deployment that waits, and the verdict decides whether traffic moves.

https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-hooks.html
"""

from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.config import Config

from voting.observability import logger
from voting.ops.custom_resource import NotDone
from voting.reason import explain

# The verdict goes out within the function's timeout in any case: CodeDeploy waits for it, and traffic with it.
CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 10
ATTEMPTS = 3


def report_verdict(event: Mapping[str, Any], perform: Callable[[], object]) -> str:
    """Try the deployment of *event* by *perform*, report Succeeded or Failed to CodeDeploy, and return the verdict.

    It is reported in every case.

    Raises:
        BotoCoreError, ClientError: it could not be delivered.
    """
    verdict = "Failed"
    try:
        perform()
        verdict = "Succeeded"
    except NotDone as error:
        logger.error("the new version is refused", reason=str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours must not keep CodeDeploy waiting
        logger.exception("the new version is refused", reason=explain(error))
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S, read_timeout=ANSWER_TIMEOUT_S, retries={"total_max_attempts": ATTEMPTS}
    )
    boto3.client("codedeploy", config=config).put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status=verdict,
    )
    return verdict
