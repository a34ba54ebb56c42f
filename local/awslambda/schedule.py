"""EventBridge Scheduler: every rate fires at the start and then once per period."""

import asyncio
import json
import logging
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from local.awslambda.invocation import Functions
from local.template.account import Account
from local.template.resources import Schedule

_log = logging.getLogger("local.schedule")


class Scheduler:
    """Hands the template's schedules to the functions as asynchronous invocations."""

    def __init__(self, schedules: Iterable[Schedule], functions: Functions, account: Account) -> None:
        self._schedules = tuple(schedules)
        self._functions = functions
        self._account = account
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._repeat(schedule)) for schedule in self._schedules]

    def fire(self, function: str) -> None:
        """Fire the schedules of one function out of turn, so that changed code takes over."""
        for schedule in self._schedules:
            if schedule.function == function:
                self._fire(schedule)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, schedule: Schedule) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._fire(schedule)
            due += schedule.every_s
            now = loop.time()
            if due < now:  # the machine slept: missed events are not fired later
                due = now + schedule.every_s
            await asyncio.sleep(due - now)

    def _fire(self, schedule: Schedule) -> None:
        payload = schedule.payload if schedule.payload is not None else json.dumps(self._default(schedule))
        self._functions.enqueue(schedule.function, payload.encode())
        _log.debug("%s fired", schedule.name)

    def _default(self, schedule: Schedule) -> dict[str, object]:
        """Return what a target without Input gets. Its `detail` is a string on AWS too (aws-lambda-go #563)."""
        region, account = self._account.region, self._account.account_id
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": account,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": region,
            "resources": [f"arn:aws:scheduler:{region}:{account}:schedule/default/{schedule.name}"],
            "detail": "{}",
        }
