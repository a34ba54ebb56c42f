"""A trickle of seeded votes by voters who keep their cookies and sometimes change their minds."""

import asyncio
import itertools
import math
import random

from votectl.loadtest.http_connection import HttpConnection
from votectl.loadtest.voter import Voter
from votectl.terminal import say

SWING_VOTES = 240  # the favour swings from one choice to the other and back within so many votes
PAUSE_AFTER_FAILURE_S = 2.0
TIMEOUT_S = 10.0


class Demo:
    """Some voters, of whom a random one votes at a time."""

    def __init__(self, url: str, *, voters: int, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._voters = [Voter() for _ in range(voters)]

    def run(self, rate: float, votes: int | None = None) -> None:
        """Send *rate* votes a second on average, at random moments, *votes* in all or without an end."""
        asyncio.run(self._run(rate, votes))

    async def _run(self, rate: float, votes: int | None) -> None:
        connection = HttpConnection(self._url, TIMEOUT_S)
        for number in itertools.count():
            if number == votes:
                break
            favour = 0.5 + 0.25 * math.sin(2 * math.pi * number / SWING_VOTES)
            choice = "a" if self._random.random() < favour else "b"
            voter = self._random.choice(self._voters)
            cast = await voter.cast(choice, connection)
            voter.casts.clear()  # nobody counts them, and a trickle may run for weeks
            if cast.outcome != "accepted":
                say(f"a vote was not taken: {cast.why}")
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            # A Poisson process: that is how votes of many independent people arrive.
            await asyncio.sleep(min(self._random.expovariate(rate), 10 / rate))
        connection.close()
