"""The execution environments of one function, and the requests that wait for one of them."""

import asyncio
import os
from collections import deque
from typing import NamedTuple

from local.awslambda.environment import INIT_TIMEOUT_S, Environment, Sandbox
from local.awslambda.invocation import Answer, Throttled
from local.template.resources import Function

# On two cores, starting a process costs more than a short wait: start another only once a request has waited this long.
GROW_AFTER_S = 0.1
# With more than one environment per core, and one that waits for a store, they only slow each other down: ten on two
# cores take nearly twice as long per request. So more are started only after a longer wait.
FEW = (os.cpu_count() or 1) + 1
GROW_BEYOND_AFTER_S = 0.4
REAP_AFTER_S = 300.0
MOST_STARTS = 3  # consecutive starts that die without a message, before the waiting requests fail


class InitFailed(Exception):
    """No environment could be initialised; the answer has the reason."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.payload.decode(errors="replace"))
        self.answer = answer


class _Waiter(NamedTuple):
    """A request without an environment."""

    future: asyncio.Future[Environment]
    since: float  # loop time


class Pool:
    """Environments on demand, up to a limit.

    AWS grows one environment per concurrent request up to the account's limit and throttles beyond it. A laptop has
    few cores, so requests queue here (first in, first out, up to the function's timeout) for one of *limit*
    environments; only the reserved concurrency throttles at once, as on AWS.
    """

    def __init__(self, function: Function, sandbox: Sandbox, limit: int) -> None:
        self.function = function
        self._sandbox = sandbox
        self._limit = limit if function.reserved_concurrency is None else min(limit, function.reserved_concurrency)
        self._all: set[Environment] = set()
        self._idle: list[Environment] = []  # the last one used comes first: the others grow old and are reaped
        self._starting: set[Environment] = set()
        self._waiting: deque[_Waiter] = deque()
        self._active = 0
        self._deaths = 0  # of consecutive starts, without a message
        self._growth: asyncio.TimerHandle | None = None
        self._stops: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._all)

    async def invoke(self, request_id: str, payload: bytes) -> Answer:
        """Run one invocation.

        Raises:
            Throttled: the reserved concurrency is in use, or no environment became free within the timeout.
        """
        reserved = self.function.reserved_concurrency
        if self._closed or (reserved is not None and self._active >= reserved):
            raise Throttled(self.function.name)
        self._active += 1
        try:
            environment = self._idle.pop() if self._idle else await self._wait()
            return await environment.invoke(request_id, payload)
        except InitFailed as failed:
            return failed.answer
        finally:
            self._active -= 1

    async def warm(self) -> Answer | None:
        """Return once an environment has initialised, or the answer of an init that failed."""
        if self._idle:
            return None
        try:
            self.idle(await self._wait())
        except InitFailed as failed:
            return failed.answer
        return None

    async def replace(self, function: Function | None = None) -> None:
        """Take over changed code: idle environments end now, busy ones after their answer."""
        self.function = function or self.function
        for environment in self._all:
            environment.retired = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(environment.stop() for environment in (*idle, *self._starting)))

    async def reap(self) -> None:
        """Stop environments that have been idle for some minutes, but keep at least one."""
        oldest = asyncio.get_running_loop().time() - REAP_AFTER_S
        old = [environment for environment in self._idle if environment.idle_since < oldest]
        old = old[: len(self._all) - 1]
        self._idle = [environment for environment in self._idle if environment not in old]
        await asyncio.gather(*(environment.stop() for environment in old))

    async def close(self) -> None:
        """Kill every environment; requests that wait are throttled."""
        self._closed = True
        if self._growth is not None:
            self._growth.cancel()
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(Throttled(self.function.name))
        await asyncio.gather(*(environment.stop() for environment in tuple(self._all)), *self._stops)

    # ------------------------------------------------------------ what environments report (environment.Owner)

    def idle(self, environment: Environment) -> None:
        self._starting.discard(environment)
        self._deaths = 0
        if environment.retired:
            self._stop_later(environment)
            return
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_result(environment)
                return
        self._idle.append(environment)

    def gone(self, environment: Environment, init_error: Answer | None) -> None:
        self._all.discard(environment)
        self._starting.discard(environment)
        if environment in self._idle:
            self._idle.remove(environment)
        if self._closed:
            return
        if init_error is not None and not environment.retired and not self._is_worth_another_start(environment):
            # Every waiting request would get the same error; starting again for each would only waste CPU time.
            while self._waiting:
                future = self._waiting.popleft().future
                if not future.done():
                    future.set_exception(InitFailed(init_error))
        elif self._waiting:
            self._grow()

    def _is_worth_another_start(self, environment: Environment) -> bool:
        """Whether the next start may succeed after this failure: the process was killed, for example by the OOM killer.

        Lambda gives every invocation an environment of its own and tries its init twice.
        """
        if environment.said_why:
            return False
        self._deaths = (self._deaths + 1) % MOST_STARTS
        return self._deaths > 0

    # ------------------------------------------------------------ growth

    async def _wait(self) -> Environment:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future(), loop.time())
        self._waiting.append(waiter)
        future = waiter.future
        if not self._all:
            self._grow()
        self._watch_growth()
        init_s = 0 if len(self._all) > len(self._starting) else INIT_TIMEOUT_S  # an init is not counted on AWS either
        try:
            async with asyncio.timeout(self.function.timeout_s + init_s):
                return await future
        except (TimeoutError, asyncio.CancelledError) as gave_up:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if future.done() and not future.cancelled() and future.exception() is None:
                self.idle(future.result())  # it was handed over at that very moment
            if isinstance(gave_up, TimeoutError):
                raise Throttled(self.function.name) from None
            raise

    def _watch_growth(self) -> None:
        if self._growth is None:
            self._growth = asyncio.get_running_loop().call_later(GROW_AFTER_S, self._grow_for_the_waiting)

    def _grow_for_the_waiting(self) -> None:
        self._growth = None
        if self._waiting and not self._closed:
            waits_s = asyncio.get_running_loop().time() - self._waiting[0].since
            # One start at a time: several at once slow each other down, and the first may be enough.
            if not self._starting and (len(self._all) < FEW or waits_s >= GROW_BEYOND_AFTER_S):
                self._grow()
            self._watch_growth()

    def _grow(self) -> None:
        if len(self._all) < self._limit:
            environment = Environment(self.function, self._sandbox, self)
            self._all.add(environment)
            self._starting.add(environment)
            environment.start()

    def _stop_later(self, environment: Environment) -> None:
        task = asyncio.create_task(environment.stop())
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)
