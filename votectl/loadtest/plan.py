"""A load of votes and re-votes: a seed decides what is sent, and the voters remember what became of it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from votectl.loadtest.api_client import ApiClient
from votectl.loadtest.voter import Cast, Voter

TIMEOUT_S = 35.0  # API Gateway gives up after 30


@dataclass(frozen=True, slots=True)
class Plan:
    """Pairs of voter and choice, in order; voters are numbered from 0."""

    votes: tuple[tuple[int, str], ...]
    voters: int

    @classmethod
    def of(cls, votes: int, voters: int, revote_share: float, seed: int, choices: Sequence[str] = "ab") -> "Plan":
        """Plan *votes* votes for *choices*, at least *revote_share* of them by voters who have voted before."""
        rng = random.Random(seed)
        first = max(1, min(voters, votes - round(votes * revote_share)))
        is_first = [True] * (first - 1) + [False] * (votes - first)
        rng.shuffle(is_first)
        planned, known = [], 0
        for new in [True, *is_first]:
            voter = known if new else rng.randrange(known)
            known += new
            planned.append((voter, rng.choice(choices)))
        return cls(tuple(planned), known)


async def send(plan: Plan, url: str, concurrency: int, sent: Callable[[Cast], None]) -> list[Voter]:
    """Send the plan with at most *concurrency* requests at the same time; call *sent* with each outcome.

    The votes of one voter are sent one after the other, in the order of the plan.
    """
    voters = [Voter() for _ in range(plan.voters)]
    lanes: list[list[tuple[int, str]]] = [[] for _ in range(min(concurrency, plan.voters))]
    for voter, choice in plan.votes:
        lanes[voter % len(lanes)].append((voter, choice))

    async def drive(lane: list[tuple[int, str]], client: ApiClient) -> None:
        for voter, choice in lane:
            sent(await voters[voter].cast(choice, client))

    async with ApiClient(url, TIMEOUT_S) as client, asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(drive(lane, client))
    return voters


def outcomes(voters: list[Voter]) -> Counter[str]:
    """Count the votes by outcome: accepted, refused, maybe."""
    return Counter(cast.outcome for voter in voters for cast in voter.casts)
