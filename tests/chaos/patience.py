"""How long the suite waits for a condition: deadlines, all scaled by the one factor of the tests."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.stack import PATIENCE

T = TypeVar("T")

POLL_S = 0.02


class Impatient(Exception):
    """A condition did not come to hold within its deadline; the message says which."""


async def until(look: Callable[[], Any], what: str, within_s: float) -> Any:
    """Return what *look* finds (it may be a coroutine function) as soon as it is truthy.

    Raises:
        Impatient: it was not within *within_s*, scaled by the factor.
    """
    deadline = time.monotonic() + within_s * PATIENCE
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise Impatient(f"waited {within_s * PATIENCE:.0f} s in vain for {what}")
        await asyncio.sleep(POLL_S)


async def within(seconds: float, work: Awaitable[T], what: str) -> T:
    """Return what *work* gives.

    Raises:
        Impatient: it took longer than *seconds*, scaled by the factor; it is cancelled.
    """
    try:
        return await asyncio.wait_for(work, seconds * PATIENCE)
    except TimeoutError:
        raise Impatient(f"waited {seconds * PATIENCE:.0f} s in vain for {what}") from None
