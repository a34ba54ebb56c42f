"""Asks all the while what people are told of the count, and looks whether it stands still."""

import asyncio
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.patience import until
from tests.chaos.standstill import STALLED_AFTER_S, TOLD_WITHIN_S, Away, Said, Standstill
from tests.chaos.witness import Witness
from tests.stack import PATIENCE

EVERY_S = 0.5
LOOK_WITHIN_S = 2.0
SLACK_S = 60.0  # for an answer that is late: a complaint then comes with the answer


class Watch:
    """One sampler for the whole run: it asks the witness, then looks at the oldest message, past the proxies."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._task: asyncio.Task[None] | None = None
        self._standstill = Standstill(time.monotonic())

    def open(self, redis_url: str) -> None:
        self._task = asyncio.create_task(self._sample(redis_url))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def begin(self) -> None:
        """Forget the round before."""
        self._standstill = Standstill(time.monotonic(), TOLD_WITHIN_S * PATIENCE)

    def struck(self) -> None:
        """A fault strikes."""
        self._standstill.struck()

    def healed(self) -> None:
        """The fault is over, and the count must come to be moving."""
        self._standstill.healed(time.monotonic())

    async def told(self) -> None:
        """Return once everyone says that nothing is counted, or it is complained that someone does not."""
        await self._ruled(self._standstill.is_told, STALLED_AFTER_S + TOLD_WITHIN_S)

    async def taken_back(self) -> None:
        """Return once everyone says that votes are counted, or it is complained that someone does not."""
        await self._ruled(self._standstill.is_taken_back, TOLD_WITHIN_S)

    def complaints(self) -> list[str]:
        """What is to be complained of in this round.

        Raises whatever the sampler ended with: then nothing was watched.
        """
        if self._task is not None and self._task.done():
            self._task.result()
        return self._standstill.complaints

    def stalls(self) -> list[str]:
        """The stalls of this round that are over, a line each."""
        return [stall.line() for stall in self._standstill.stalls]

    async def _ruled(self, holds: Callable[[], bool], within_s: float) -> None:
        before = len(self.complaints())
        await until(lambda: holds() or len(self.complaints()) > before, "word of the count", within_s + SLACK_S)

    async def _sample(self, redis_url: str) -> None:
        async with Redis.from_url(redis_url, socket_timeout=LOOK_WITHIN_S, retry=None) as redis:
            while True:
                asked_at = time.monotonic()
                said = await self._ask()
                oldest = await _oldest(redis)
                self._standstill.see(asked_at, said, time.monotonic(), oldest)
                await asyncio.sleep(EVERY_S)

    async def _ask(self) -> dict[str, Said]:
        health, badge = await asyncio.gather(self._witness.health(), self._witness.badge())
        return {"/health": health, "the badge": badge}


async def _oldest(redis: Redis) -> bytes | Away | None:
    """The message that is counted next."""
    try:
        return await redis.lindex("{votes}:processing", -1) or await redis.lindex("votes", -1)
    except (RedisError, OSError):
        return Away()
