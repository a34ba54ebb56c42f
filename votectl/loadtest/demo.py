"""A trickle of seeded votes by voters who keep their cookies and sometimes change their minds."""

import asyncio
import itertools
import math
import random

from votectl.loadtest.api_client import ApiClient
from votectl.loadtest.voter import Voter
from votectl.terminal import say

SWING_VOTES = 240  # votes in which the odds swing from one choice to the other and back
PAUSE_AFTER_FAILURE_S = 2.0
TIMEOUT_S = 10.0


class Demo:
    """Some voters, of whom one at random votes at a time."""

    def __init__(self, url: str, *, voters: int, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._voters = [Voter() for _ in range(voters)]

    def run(self, rate: float, votes: int | None = None) -> None:
        """Send *rate* votes per second on average, at random moments: *votes* in all, or without end."""
        asyncio.run(self._run(rate, votes))

    async def _run(self, rate: float, votes: int | None) -> None:
        async with ApiClient(self._url, TIMEOUT_S) as client:
            for number in itertools.count() if votes is None else range(votes):
                await self._cast(number, client)
                # A Poisson process: that is how votes of many independent people arrive.
                await asyncio.sleep(min(self._random.expovariate(rate), 10 / rate))

    async def _cast(self, number: int, client: ApiClient) -> None:
        odds = 0.5 + 0.25 * math.sin(2 * math.pi * number / SWING_VOTES)
        choice = "a" if self._random.random() < odds else "b"
        voter = self._random.choice(self._voters)
        cast = await voter.cast(choice, client)
        voter.casts.clear()  # they are not audited, and a trickle may run for weeks
        if cast.outcome != "accepted":
            say(f"a vote was not accepted: {cast.why}")
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
