"""Structured logs and EMF metrics, one of each per execution environment."""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

__all__ = ["MetricUnit", "logger", "metrics"]

# Service, level and namespace come from POWERTOOLS_* in template.yaml.
logger = Logger()
metrics = Metrics()
