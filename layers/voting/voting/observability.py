"""Structured logs and EMF metrics, one of each per execution environment."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from voting.log_sampling import Sampler

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from voting.logs import MetricUnit, formatter, logger, metrics

__all__ = [
    "NAMESPACE",
    "MetricUnit",
    "count",
    "formatter",
    "invocation",
    "logger",
    "metrics",
    "publish",
    "reported",
    "sampler",
    "tell",
]

# Service, level and namespace come from POWERTOOLS_* in template.yaml, which Powertools itself reads at import. The
# namespace contains the name of the stack, so that the metrics of two stacks in one account are kept apart.
NAMESPACE = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Voting")
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "service_undefined")

_encode = json.JSONEncoder(separators=(",", ":")).encode

for driver in ("psycopg", "redis", "botocore", "boto3", "urllib3"):  # their log lines quote their arguments
    logging.getLogger(driver).setLevel(logging.CRITICAL + 1)


class Invocation(logging.Filter):
    """Adds to each line the fields of the current invocation, named as in Powertools' `inject_lambda_context`.

    For HTTP functions: nearly all of their invocations log nothing, and then this takes almost no time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._context: LambdaContext | None = None
        self._facts: dict[str, str] = {}
        self._is_cold = self._is_first = True

    def begin(self, context: "LambdaContext", **facts: str) -> None:
        """Add the fields of this invocation, and *facts*, to the lines that follow."""
        self._context, self._facts = context, facts
        self._is_cold, self._is_first = self._is_first, False

    def filter(self, record: logging.LogRecord) -> bool:
        context = self._context
        if context is not None:
            record.__dict__ |= {
                "cold_start": self._is_cold,
                "function_name": context.function_name,
                "function_memory_size": context.memory_limit_in_mb,
                "function_arn": context.invoked_function_arn,
                "function_request_id": context.aws_request_id,
                **self._facts,
            }
        return True


invocation = Invocation()


def __getattr__(name: str) -> Any:
    """Import what Powertools makes when it is first asked for."""
    if name not in {"MetricUnit", "formatter", "logger", "metrics"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from voting import logs  # noqa: PLC0415 - see there

    return getattr(logs, name)


# One for the execution environment: for all functions, requests and threads.
sampler = Sampler()


def tell(
    message: str,
    kind: str = "",
    *,
    level: int = logging.WARNING,
    events: int = 1,
    error: Exception | None = None,
    **fields: Any,
) -> int:
    """Log *message* at most once per second and *kind*; return how many events the line stands for, 0 without a line.

    For anything that a request, a frame, a message or the outage of a store can cause. Of *error* it logs the class and
    what `explain` says, without a stack, since the cause of an outage is enough. A *kind* is a fixed word of our code,
    never part of a request.
    """
    number = sampler.admit(f"{message}: {kind}", events)
    if number:
        from voting.logs import LEVELS  # noqa: PLC0415 - most first responses log nothing
        from voting.reason import explain  # noqa: PLC0415

        if error is not None:
            fields |= {"error": type(error).__name__, "detail": explain(error)}
        LEVELS[level](message, stacklevel=3, count=number, **fields)  # the location of our caller
    return number


class Failed(Exception):
    """An invocation failed; the message gives the reason, in words that may be logged."""


def reported(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Add the fields of the invocation to each line that *handler* logs, and replace the exceptions of drivers.

    The Lambda runtime would log such an exception unchanged, and return it. Our own exceptions pass.
    """

    @wraps(handler)
    def handle(event: Any, context: Any) -> Any:
        invocation.begin(context)
        try:
            return handler(event, context)
        except Exception as error:
            from voting.logs import logger  # noqa: PLC0415
            from voting.reason import explain, is_ours  # noqa: PLC0415

            if is_ours(error):
                raise
            if failed := sampler.admit(f"the invocation failed: {type(error).__name__}"):
                logger.exception("the invocation failed", count=failed)
            raise Failed(f"{type(error).__name__}: {explain(error)}") from None

    return handle


def publish() -> None:
    """Print the metrics gathered so far, for CloudWatch to read; print nothing if there are none."""
    from voting.logs import metrics  # noqa: PLC0415

    if metrics.metric_set:
        metrics.flush_metrics()


def count(name: str, number: int = 1, **dimensions: str) -> None:
    """Print one metric on a line of its own: for events in every request, in a tenth of the time of `metrics`.

    The format is CloudWatch's embedded metric format. It is one write, since Lambda flushes after each write, and
    `print` makes two.
    """
    head, middle, tail = _line(name, tuple(dimensions.items()))
    sys.stdout.write(f"{head}{time.time_ns() // 1_000_000}{middle}{float(number)}{tail}\n")


@lru_cache(maxsize=64)  # only the time and the number differ between lines
def _line(name: str, given: tuple[tuple[str, str], ...]) -> list[str]:
    """Return the parts of the line before the timestamp in milliseconds, between it and the number, and after that."""
    dimensions = {"service": SERVICE, **dict(given)}
    metric = {"Namespace": NAMESPACE, "Dimensions": [[*dimensions]], "Metrics": [{"Name": name, "Unit": "Count"}]}
    about = {"Timestamp": "\0", "CloudWatchMetrics": [metric]}
    return _encode({"_aws": about, **dimensions, name: ["\0"]}).split(_encode("\0"))
