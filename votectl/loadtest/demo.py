"""A trickle of seeded votes by voters who keep their cookies and sometimes change their minds."""

import asyncio
import itertools
import math
import random

from votectl.loadtest.api_audit import NoResults, read_choices
from votectl.loadtest.api_client import ApiClient, NoAnswer, NotSent
from votectl.loadtest.voter import Voter
from votectl.terminal import say

SWING_VOTES = 240  # votes in which the odds of each choice swing once
PAUSE_AFTER_FAILURE_S = 2.0
TIMEOUT_S = 10.0


class Demo:
    """Some voters, of whom one at random votes at a time, for any of the options that the server has."""

    def __init__(self, url: str, *, voters: int, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._voters = [Voter() for _ in range(voters)]
        self._choices: list[str] = []  # known once the server has answered

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
        try:
            self._choices = self._choices or await read_choices(client)
        except (NoResults, NotSent, NoAnswer) as error:
            say(f"the options cannot be read: {error}")
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            return
        [choice] = self._random.choices(self._choices, odds(number, len(self._choices)))
        voter = self._random.choice(self._voters)
        cast = await voter.cast(choice, client)
        voter.casts.clear()  # they are not audited, and a trickle may run for weeks
        if cast.outcome != "accepted":
            say(f"a vote was not accepted: {cast.why}")
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)


def odds(number: int, choices: int) -> list[float]:
    """The relative odds of each of *choices* at the vote *number*: between 0.5 and 1.5, one after the other ahead."""
    return [1 + math.sin(2 * math.pi * (number / SWING_VOTES + place / choices)) / 2 for place in range(choices)]
