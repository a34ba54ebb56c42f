"""A custom resource of CloudFormation: a request comes as an event, and the answer goes to the address in it.

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
LONGEST_REASON = 600  # characters: an answer holds 4096 bytes


class NotDone(Exception):
    """What the resource stands for could not be done; the message is a sentence for whoever deploys."""


def fulfil(event: Mapping[str, Any], perform: Callable[[], object]) -> str:
    """Do what *event* asks for, tell CloudFormation, and return the status. Nothing is deleted.

    An answer is given whatever happens: without one CloudFormation waits until its timeout. The attributes of the
    resource are those that its property `Attributes` names.

    Raises:
        OSError: the answer could not be delivered.
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
    """By which CloudFormation knows the answer. Another physical id would make it delete the resource of before."""
    known = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    return known | {"PhysicalResourceId": event.get("PhysicalResourceId") or event["LogicalResourceId"]}


def _put(url: str, answer: Mapping[str, object]) -> None:
    # The address is signed for an empty content type.
    request = urllib.request.Request(  # noqa: S310 - CloudFormation's own
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
