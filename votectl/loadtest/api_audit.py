"""The audit of a load test as far as the API allows it: how the totals changed."""

import asyncio
import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from votectl.loadtest.api_client import ApiClient, NoAnswer, NotSent
from votectl.loadtest.store_audit import possible_choices
from votectl.loadtest.voter import Voter

LOOK_EVERY_S = 0.5
TIMEOUT_S = 35.0


class NoResults(Exception):
    """The API shows no results, or only stale ones."""


@dataclass(frozen=True, slots=True)
class Movement:
    """The bounds within which the total of one choice should have grown, and by how much it did."""

    choice: str
    least: int
    most: int
    grew: int

    @property
    def is_right(self) -> bool:
        return self.least <= self.grew <= self.most


async def read_results(client: ApiClient) -> dict[str, Any]:
    """The document of `/api/results`.

    Raises:
        NoResults, NotSent, NoAnswer: it cannot be read.
    """
    reply = await client.request("GET", "/api/results", {"Accept": "application/json"})
    if reply.status != 200:
        raise NoResults(f"/api/results answered {reply.status}")
    results: dict[str, Any] = json.loads(reply.body)
    return results


async def read_choices(client: ApiClient) -> list[str]:
    """The ids of all options, whether the figures are old or not.

    Raises:
        NoResults, NotSent, NoAnswer: as `read_results`.
    """
    return [option["id"] for option in (await read_results(client))["options"]]


async def read_totals(url: str) -> Counter[str]:
    """The votes for each choice.

    Raises:
        NoResults, NotSent, NoAnswer: the totals cannot be read.
    """
    async with ApiClient(url, TIMEOUT_S) as client:
        results = await read_results(client)
    if "stale_seconds" in results:
        raise NoResults(f"the results are {results['stale_seconds']} s old")
    return Counter({option["id"]: option["votes"] for option in results["options"]})


async def follow(url: str, before: Counter[str], voters: list[Voter], within_s: float) -> list[Movement]:
    """Read the totals until they have moved as the voters' last choices say, or until *within_s* has passed.

    Raises:
        NoResults, NotSent, NoAnswer: the totals cannot be read at the end of that time.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            movements = compare(before, await read_totals(url), voters)
        except (NoResults, NotSent, NoAnswer):
            if time.monotonic() > deadline:
                raise
        else:
            if all(movement.is_right for movement in movements) or time.monotonic() > deadline:
                return movements
        await asyncio.sleep(LOOK_EVERY_S)


def compare(before: Counter[str], after: Counter[str], voters: list[Voter]) -> list[Movement]:
    """Compare each choice that existed before."""
    least: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for voter in voters:
        for cast in itertools.takewhile(lambda cast: cast.outcome != "accepted", voter.casts):
            most[cast.choice] += cast.outcome == "maybe"  # sent without an id, so each may count as another voter
        if voter.id is None:
            continue
        choices = possible_choices(voter)
        for choice in choices:
            most[choice] += 1
            least[choice] += len(choices) == 1
    return [Movement(choice, least[choice], most[choice], after[choice] - before[choice]) for choice in sorted(before)]
