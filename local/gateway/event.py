"""What the events of both APIs share, and the rule for the answer of a function to either."""

import base64
import os
import time
from collections.abc import Mapping
from typing import Any

# Headers between the client and the gateway only.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


class MalformedAnswer(Exception):
    """The function's answer is not a response in the format of its API; the message says why."""


def new_id() -> str:
    """Return a random id in the shape of API Gateway's ids of requests and connections, such as `JKJaXmPLvHcESHA=`."""
    return base64.urlsafe_b64encode(os.urandom(11)).decode()


def trace_id(now_s: float) -> str:
    """Return an X-Ray root for the header X-Amzn-Trace-Id."""
    return f"Root=1-{int(now_s):08x}-{os.urandom(12).hex()}"


def format_time(now_s: float) -> str:
    """Write seconds since the epoch as events show the time of a request."""
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now_s))


def read_status(answer: Mapping[str, Any]) -> int:
    """Return the statusCode of *answer*.

    Raises:
        MalformedAnswer: it is missing, or not the status of a final response.
    """
    status = answer.get("statusCode")
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise MalformedAnswer(f"statusCode is {status!r}, not a number from 200 to 599")
    return status
