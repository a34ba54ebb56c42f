"""What Powertools makes: the logger and the gathered metrics, one of each per execution environment.

It is imported with the first line that is logged, since a first response rarely logs any and Powertools costs 20 ms:
`voting.observability` hands out its names.
"""

import logging
import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from voting.observability import NAMESPACE, invocation
from voting.reason import narrate
from voting.settings import Settings, spellings

__all__ = ["LEVELS", "MetricUnit", "formatter", "logger", "metrics"]

FIXED = {
    "level",
    "location",
    "message",
    "timestamp",
    "service",
}  # our own texts, in which a weak password may occur by chance

Exc = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Discreet(LambdaPowertoolsFormatter):
    """Formats an exception as `explain` does, and replaces every known secret wherever it occurs."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(serialize_stacktrace=False, **fields)  # it would quote the exception; `narrate` does not
        self._fetched: frozenset[str] = frozenset()

    def conceal(self, secrets: Iterable[str]) -> None:
        """Hide *secrets* that are in no setting."""
        self._fetched |= spellings(secrets)

    def formatException(self, ei: Exc) -> str:  # noqa: N802 - logging's name
        return narrate(ei[1]) if ei[1] is not None else ""

    def serialize(self, log: dict[str, Any]) -> str:  # type: ignore[override] # it is called with a dict
        log.pop("exception_notes", None)
        # Read each time, since log lines are rare, and settings that are read once could be read too early.
        secrets = sorted(Settings(os.environ).secrets | self._fetched, key=len, reverse=True)
        return shown(super().serialize({key: log[key] if key in FIXED else blot(log[key], secrets) for key in log}))


def shown(document: str) -> str:
    """Return JSON *document* with control characters escaped, which could steer a terminal; letters are kept."""
    if document.isprintable():
        return document
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in document)


def _escaped(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def blot(value: Any, secrets: Iterable[str]) -> Any:
    """Return *value* with *** in place of each of *secrets*."""
    if isinstance(value, dict):
        return {key: blot(part, secrets) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [blot(part, secrets) for part in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


formatter = Discreet()
logger = Logger(logger_formatter=formatter)
metrics = Metrics(namespace=NAMESPACE)
logger.addFilter(invocation)

LEVELS = {logging.INFO: logger.info, logging.WARNING: logger.warning, logging.ERROR: logger.error}
