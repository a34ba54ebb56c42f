"""Judges a round from outside: what the voters were told, against what the stores hold. It knows nothing of voting.

A voter's votes are replayed in order. An accepted one decides; a maybe leaves two ways; a refused one changes nothing.
"""

import json
from collections import Counter
from dataclasses import dataclass, field

import psycopg
from redis.asyncio import Redis

from tests.chaos.ledger import Ledger, Outcome, Voter


@dataclass(frozen=True, slots=True)
class Found:
    """What the stores hold when everything has been drained."""

    rows: dict[str, str]
    tally: dict[str, int]  # as the triggers keep it
    counted: dict[str, int]  # as GROUP BY counts it
    dead: list[dict[str, str]]
    queued: int


@dataclass(slots=True)
class Verdict:
    """The sums of a round; it is good if nothing is lost, misordered or complained of."""

    accepted: int = 0
    applied: int = 0  # accepted votes of voters whose row is the one that they must end with
    parked: int = 0
    lost: int = 0  # voters who were told "queued" and have no row
    misordered: int = 0  # voters with a row that an older choice of theirs has won
    ghosts: int = 0  # voters with a choice of which they were told "not recorded"
    maybes: int = 0
    open: int = 0  # voters whose last vote was a maybe, so that two rows were right
    complaints: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.misordered or self.ghosts or self.complaints)


async def look(redis_url: str, database_url: str) -> Found:
    """Read both stores, past the proxies."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        dead = [json.loads(letter) for letter in await redis.lrange("{votes}:dead", 0, -1)]
        queued = await redis.llen("votes") + await redis.llen("{votes}:processing")
    async with await psycopg.AsyncConnection.connect(database_url) as database:
        rows = await (await database.execute("SELECT id, vote FROM votes")).fetchall()
        tally = await (await database.execute("SELECT vote, votes FROM voting.vote_tally WHERE votes <> 0")).fetchall()
        counted = await (await database.execute("SELECT vote, count(*) FROM votes GROUP BY vote")).fetchall()
    return Found(dict(rows), dict(tally), dict(counted), dead, queued)


def judge(ledger: Ledger, found: Found) -> Verdict:
    """Compare every voter's row, the tally, the dead letters and what is still queued."""
    verdict = Verdict(accepted=ledger.count(Outcome.ACCEPTED), maybes=ledger.count(Outcome.MAYBE))
    for voter in ledger.voters:
        _judge_voter(voter, found.rows.get(voter.id), verdict)
    strangers = found.rows.keys() - {voter.id for voter in ledger.voters}
    verdict.parked = len(found.dead)
    complain = verdict.complaints.append
    if strangers:
        complain(f"{len(strangers)} rows of nobody")
    if found.tally != found.counted:
        complain(f"the tally says {found.tally}, the table {found.counted}")
    if found.queued:
        complain(f"{found.queued} votes are still queued")
    _judge_dead_letters(ledger, found.dead, verdict)
    return verdict


def outcomes(voter: Voter) -> tuple[set[str | None], set[str | None]]:
    """The rows that a voter may end with; and those, had what was refused been recorded all the same."""
    right: set[str | None] = {None}
    ghost: set[str | None] = {None}
    for choice, told in voter.cast:
        if told is Outcome.ACCEPTED:
            right = ghost = {choice}
        elif told is Outcome.MAYBE:
            right, ghost = right | {choice}, ghost | {choice}
        else:
            ghost = ghost | {choice}
    return right, ghost


def _judge_voter(voter: Voter, row: str | None, verdict: Verdict) -> None:
    right, ghost = outcomes(voter)
    verdict.open += len(right) > 1
    if row in right:
        verdict.applied += sum(told is Outcome.ACCEPTED for _, told in voter.cast)
    elif row in ghost:
        verdict.ghosts += 1
    elif row is None:
        verdict.lost += 1
    else:
        verdict.misordered += 1


def _judge_dead_letters(ledger: Ledger, dead: list[dict[str, str]], verdict: Verdict) -> None:
    letters = Counter((letter.get("payload", ""), letter["reason"]) for letter in dead)
    expected = Counter(ledger.junk.items())
    may_lack = Counter({item: 1 for item in ledger.junk.items() if item[0] in ledger.junk_maybe})
    if missing := expected - letters - may_lack:
        verdict.complaints.append(f"dead letters missing: {missing.total()}")
    if extra := letters - expected:
        verdict.complaints.append(f"dead letters too many: {extra.total()}")
