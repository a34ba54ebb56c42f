"""A custom resource of CloudFormation: the request is an event, and the response goes to the URL in it.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
"""

import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from voting.observability import logger
from voting.reason import explain

PUT_TIMEOUT_S = 10.0
PUT_ATTEMPTS = 3
LONGEST_REASON = 600  # characters; a response is limited to 4096 bytes


class NotDone(Exception):
    """The work of the resource could not be done; the message is a sentence for the person who deploys."""


def fulfil(event: Mapping[str, Any], perform: Callable[[], object]) -> str:
    """Perform the request *event*, report to CloudFormation, and return the status. A Delete changes nothing.

    A response is sent in every case: without one CloudFormation waits for its timeout. The attributes of the resource
    are those in its property `Attributes`.

    Raises:
        OSError: the response could not be delivered.
    """
    outcome: dict[str, object] = {"Status": "SUCCESS"}
    if event["RequestType"] != "Delete":
        try:
            perform()
            outcome["Data"] = event["ResourceProperties"].get("Attributes", {})
        except NotDone as error:
            outcome = _failed(str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours must not keep CloudFormation waiting
            logger.exception("a deployment's step failed")
            outcome = _failed(f"{explain(error)}: see the log of this function")
    _put(event["ResponseURL"], outcome | _identity(event))
    logger.info("answered CloudFormation", request=event["RequestType"], outcome=outcome)
    return str(outcome["Status"])


def _failed(reason: str) -> dict[str, object]:
    return {"Status": "FAILED", "Reason": reason[:LONGEST_REASON]}


def _identity(event: Mapping[str, Any]) -> dict[str, object]:
    """The ids that CloudFormation expects. It would delete the old resource if the physical id changed."""
    known = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    return known | {"PhysicalResourceId": event.get("PhysicalResourceId") or event["LogicalResourceId"]}


def _put(url: str, answer: Mapping[str, object]) -> None:
    # The signature of the URL covers an empty content type.
    request = urllib.request.Request(  # noqa: S310 - the URL comes from CloudFormation
        url, data=json.dumps(answer, ensure_ascii=False).encode(), method="PUT", headers={"Content-Type": ""}
    )
    for attempt in range(1, PUT_ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=PUT_TIMEOUT_S):  # noqa: S310 - as above
                return
        except OSError:
            if attempt == PUT_ATTEMPTS:
                raise
            time.sleep(attempt)
