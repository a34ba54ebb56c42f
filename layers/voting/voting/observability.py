"""Structured logs and EMF metrics, one of each per execution environment."""

import os

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

__all__ = ["NAMESPACE", "MetricUnit", "logger", "metrics", "publish"]

# Service, level and namespace come from POWERTOOLS_* in template.yaml, which Powertools itself reads at import. The
# namespace has the stack's name in it, so that two stacks in one account do not add up.
NAMESPACE = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Voting")

logger = Logger()
metrics = Metrics(namespace=NAMESPACE)


def publish() -> None:
    """Print the metrics gathered so far, from where CloudWatch picks them up; no line where there are none."""
    if metrics.metric_set:
        metrics.flush_metrics()
