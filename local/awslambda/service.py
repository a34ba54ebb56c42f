"""Runs the functions of the template: the implementation of `Functions`."""

import asyncio
import logging
import shutil
import time
import uuid
from collections.abc import Mapping

from local.awslambda.environment import Sandbox
from local.awslambda.invocation import Answer, PayloadTooLarge, Throttled, UnknownFunction
from local.awslambda.pool import Pool
from local.awslambda.runtime_api import MAX_PAYLOAD
from local.template.resources import Function

MAX_EVENT_PAYLOAD = 1024 * 1024
# AWS waits one minute before the first retry of an asynchronous invocation and two before the second.
RETRY_AFTER_S = (1.0, 2.0)
# A throttled event is tried again for as long as it may live, from 1 s up to 5 min on AWS.
THROTTLED_AFTER_S, THROTTLED_AT_MOST_S = 0.5, 10.0
_REAP_EVERY_S = 30.0

_log = logging.getLogger("local.lambda")


class LambdaService:
    """Implements `local.awslambda.invocation.Functions` with one pool of execution environments per function."""

    def __init__(self, functions: Mapping[str, Function], sandbox: Sandbox, *, environments: int = 10) -> None:
        self._pools = {name: Pool(function, sandbox, environments) for name, function in functions.items()}
        self._events: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.Task[None] | None = None

    async def invoke(self, name: str, payload: bytes) -> Answer:
        pool = self._pool(name)
        _check(payload, MAX_PAYLOAD)
        return await pool.invoke(str(uuid.uuid4()), payload)

    def enqueue(self, name: str, payload: bytes) -> str:
        pool = self._pool(name)
        _check(payload, MAX_EVENT_PAYLOAD)
        request_id = str(uuid.uuid4())
        task = asyncio.get_running_loop().create_task(_deliver(pool, request_id, payload))
        self._events.add(task)
        task.add_done_callback(self._events.discard)
        return request_id

    def has(self, name: str) -> bool:
        return name in self._pools

    async def warm(self, name: str) -> Answer | None:
        """Return once one environment of the function has initialised, or with the answer of an init that failed."""
        self._start_reaper()
        return await self._pool(name).warm()

    async def replace(self, name: str, function: Function | None = None) -> None:
        """Let changed code (or a changed declaration) take over."""
        pool = self._pool(name)
        _forget_bytecode(pool.function)
        await pool.replace(function)

    async def reap(self) -> None:
        """Stop environments that have been idle for some minutes."""
        for pool in self._pools.values():
            await pool.reap()

    async def close(self) -> None:
        """Kill every environment and drop the events that wait."""
        tasks = [*self._events, *([self._reaper] if self._reaper is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def _pool(self, name: str) -> Pool:
        try:
            return self._pools[name]
        except KeyError:
            raise UnknownFunction(name) from None

    def _start_reaper(self) -> None:
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap_for_ever())

    async def _reap_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_REAP_EVERY_S)
            await self.reap()


def _check(payload: bytes, limit: int) -> None:
    if len(payload) > limit:
        raise PayloadTooLarge(f"{len(payload)} bytes, {limit} are allowed")


async def _deliver(pool: Pool, request_id: str, payload: bytes) -> None:
    """Try one event until it succeeds, its attempts are used up, or it is too old.

    Every attempt has the request id of the first, as on AWS.
    """
    born = time.monotonic()
    failures = 0
    throttled_s = THROTTLED_AFTER_S
    while True:
        try:
            answer = await pool.invoke(request_id, payload)
        except Throttled:
            wait_s = throttled_s
            throttled_s = min(throttled_s * 2, THROTTLED_AT_MOST_S)
            reason = "throttled"
        else:
            if answer.error is None:
                return
            failures += 1
            if failures > pool.function.retries:
                _give_up(pool.function, request_id, f"it failed {failures} times" if failures > 1 else "it failed")
                return
            wait_s = RETRY_AFTER_S[min(failures, len(RETRY_AFTER_S)) - 1]
            reason = "failed"
        if time.monotonic() - born + wait_s > pool.function.event_age_s:
            _give_up(pool.function, request_id, f"{reason}, and older than {pool.function.event_age_s:g} s")
            return
        await asyncio.sleep(wait_s)


def _give_up(function: Function, request_id: str, reason: str) -> None:
    _log.error("%s: event %s dropped: %s", function.name, request_id, reason)


def _forget_bytecode(function: Function) -> None:
    """Delete cached bytecode: Python compares seconds and lengths only, and could miss a second edit."""
    for folder in (function.code, *function.layers):
        for cache in folder.rglob("__pycache__"):
            shutil.rmtree(cache, ignore_errors=True)  # another environment may be writing it again
