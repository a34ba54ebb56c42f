"""Structured logs and EMF metrics, one of each per execution environment."""

import json
import logging
import os
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

__all__ = ["NAMESPACE", "MetricUnit", "count", "first_line", "invocation", "logger", "metrics", "publish"]

# Service, level and namespace come from POWERTOOLS_* in template.yaml, which Powertools itself reads at import. The
# namespace has the stack's name in it, so that two stacks in one account do not add up.
NAMESPACE = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Voting")
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "service_undefined")

_encode = json.JSONEncoder(separators=(",", ":")).encode

logger = Logger()
metrics = Metrics(namespace=NAMESPACE)


class Invocation(logging.Filter):
    """Puts on each line which invocation it is of, with the fields that Powertools' `inject_lambda_context` names.

    For HTTP functions: nearly all of their invocations log nothing, and then this costs next to nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._context: LambdaContext | None = None
        self._facts: dict[str, str] = {}
        self._is_cold = self._is_first = True

    def begin(self, context: "LambdaContext", **facts: str) -> None:
        """From now on, lines are of this invocation and carry *facts*."""
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
logger.addFilter(invocation)


def first_line(error: Exception) -> str:
    """What an error of a store says, without the lines in which Postgres quotes a row, and so a voter's id."""
    return str(error).partition("\n")[0]


def publish() -> None:
    """Print the metrics gathered so far, from where CloudWatch picks them up; no line where there are none."""
    if metrics.metric_set:
        metrics.flush_metrics()


def count(name: str, number: int = 1, **dimensions: str) -> None:
    """Print a metric of its own line at once: for what happens in every request, at a tenth of what `metrics` takes.

    CloudWatch's embedded metric format. One write, since Lambda flushes after each, and `print` makes two.
    """
    head, middle, tail = _line(name, tuple(dimensions.items()))
    sys.stdout.write(f"{head}{time.time_ns() // 1_000_000}{middle}{float(number)}{tail}\n")


@lru_cache(maxsize=64)  # only the time and the number change from one line to the next
def _line(name: str, given: tuple[tuple[str, str], ...]) -> list[str]:
    """What stands before the timestamp in milliseconds, between it and the number, and behind that."""
    dimensions = {"service": SERVICE, **dict(given)}
    metric = {"Namespace": NAMESPACE, "Dimensions": [[*dimensions]], "Metrics": [{"Name": name, "Unit": "Count"}]}
    about = {"Timestamp": "\0", "CloudWatchMetrics": [metric]}
    return _encode({"_aws": about, **dimensions, name: ["\0"]}).split(_encode("\0"))
