"""A load of votes and re-votes: what is sent is decided by a seed, and what became of it is kept for the audit."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from votectl.loadtest.http_connection import HttpConnection
from votectl.loadtest.voter import Cast, Voter

TIMEOUT_S = 35.0  # API Gateway gives up after 30


@dataclass(frozen=True, slots=True)
class Plan:
    """Who votes what, in order; voters are numbers from 0."""

    votes: tuple[tuple[int, str], ...]
    voters: int

    @classmethod
    def of(cls, votes: int, voters: int, revote_share: float, seed: int) -> "Plan":
        """*votes* in all, of which at least *revote_share* by somebody who has voted before."""
        rng = random.Random(seed)
        first = max(1, min(voters, votes - round(votes * revote_share)))
        is_first = [True] * (first - 1) + [False] * (votes - first)
        rng.shuffle(is_first)
        planned, known = [], 0
        for new in [True, *is_first]:
            voter = known if new else rng.randrange(known)
            known += new
            planned.append((voter, rng.choice("ab")))
        return cls(tuple(planned), known)


async def send(plan: Plan, url: str, concurrency: int, sent: Callable[[Cast], None]) -> list[Voter]:
    """Send the plan over *concurrency* connections and tell each outcome; return the voters.

    A voter's votes are serial and in the plan's order: all of them go over the same connection.
    """
    voters = [Voter() for _ in range(plan.voters)]
    lanes: list[list[tuple[int, str]]] = [[] for _ in range(min(concurrency, plan.voters))]
    for voter, choice in plan.votes:
        lanes[voter % len(lanes)].append((voter, choice))

    async def drive(lane: list[tuple[int, str]]) -> None:
        connection = HttpConnection(url, TIMEOUT_S)
        try:
            for voter, choice in lane:
                sent(await voters[voter].cast(choice, connection))
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(drive(lane))
    return voters


def outcomes(voters: list[Voter]) -> Counter[str]:
    """How many votes were accepted, refused, or are maybes."""
    return Counter(cast.outcome for voter in voters for cast in voter.casts)
