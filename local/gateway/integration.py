"""The Lambda integration of API Gateway: invokes a function, and waits for a limited time."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from local.awslambda.invocation import Answer, Functions, PayloadTooLarge, Throttled, UnknownFunction

logger = logging.getLogger("local.integration")


class IntegrationTimeout(Exception):
    """The function did not answer in time; it keeps running, as on AWS."""


class Integration:
    """Invokes functions on behalf of one API."""

    def __init__(self, functions: Functions, timeout_s: float) -> None:
        self._functions = functions
        self._timeout_s = timeout_s
        self._late: set[asyncio.Task[Answer]] = set()  # the loop keeps no strong reference to a task

    async def ask(self, function: str, event: Mapping[str, Any]) -> Answer:
        """Invoke *function* with *event* as JSON.

        Raises:
            IntegrationTimeout: no answer in time.
            UnknownFunction, Throttled, PayloadTooLarge: see `Functions.invoke`.
        """
        task = asyncio.get_running_loop().create_task(self._functions.invoke(function, json.dumps(event).encode()))
        # Not wait_for: that would cancel the invocation, and a function outlives the gateway's timeout.
        try:
            await asyncio.wait((task,), timeout=self._timeout_s)
        finally:
            if not task.done():  # timed out, or cancelled
                self._late.add(task)
                task.add_done_callback(self._forget)
        if not task.done():
            raise IntegrationTimeout
        return task.result()

    def _forget(self, task: asyncio.Task[Answer]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()):
            expected = isinstance(error, Throttled | UnknownFunction | PayloadTooLarge)
            logger.log(logging.DEBUG if expected else logging.ERROR, "no client was waiting any more for: %r", error)
