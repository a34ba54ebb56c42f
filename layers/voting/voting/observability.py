"""Structured logs and EMF metrics, one of each per execution environment."""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

__all__ = ["NAMESPACE", "MetricUnit", "logger", "metrics", "publish"]

NAMESPACE = "Voting"

# Service and level come from POWERTOOLS_* in template.yaml.
logger = Logger()
metrics = Metrics(namespace=NAMESPACE)


def publish() -> None:
    """Print the metrics gathered so far, from where CloudWatch picks them up; no line where there are none."""
    if metrics.metric_set:
        metrics.flush_metrics()
