"""The audit of a load test: the responses that the voters got, compared with what the stores hold."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import psycopg
import redis

from votectl.loadtest.voter import Voter
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.queue.dead_letters import DeadLetters
from voting.queue.queue_view import QueueView
from voting.settings import Settings
from voting.vote import InvalidVote, Vote, parse

# Raised by the methods of Stores if a store does not answer.
AWAY = (redis.ConnectionError, redis.TimeoutError, psycopg.OperationalError)
LOOK_EVERY_S = 0.1
IDS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the stores hold for some voters."""

    rows: Mapping[str, str]
    queued: Mapping[str, str]  # the newest choice of each voter
    in_process: Mapping[str, str]
    parked: Counter[str]  # dead letters by voter


@dataclass(frozen=True, slots=True)
class Accounts:
    """accepted = rows + superseded + queued + in process + parked, if nothing was lost or invented."""

    accepted: int
    rows: int
    superseded: int  # by a later vote of the same voter
    queued: int  # voters without a row whose vote is in the list
    in_process: int
    parked: int
    rows_of_maybes: int  # rows of voters without an accepted vote; not part of the sum
    right: int  # voters whose last choice counts
    wrong: int
    unsure: int  # right voters whose last request got no response, so that either choice was allowed

    @property
    def difference(self) -> int:
        return self.accepted - self.rows - self.superseded - self.queued - self.in_process - self.parked

    @property
    def balance(self) -> bool:
        return self.difference == 0 and self.wrong == 0


class Stores:
    """Read access to the stores of a local run."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        settings = Settings({"REDIS_URL": redis_url, "DATABASE_URL": database_url})
        self._clients = Clients(settings, name="votectl")
        self._queue = QueueView(self._clients.redis())

    def wait_drained(self, within_s: float) -> bool:
        """Wait until nothing is queued or in process; return false if *within_s* is over first."""
        deadline = time.monotonic() + within_s
        while self._queue.length():
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY_S)
        return True

    def holdings(self, ids: set[str]) -> Holdings:
        """Everything that the stores hold for the voters *ids*."""
        # In the order in which votes move, so that one that moves between two reads is seen twice rather than never.
        queued, in_process = (self._newest(ids, in_process=side) for side in (False, True))
        parked = Counter(vote.voter_id for vote in self._parked() if vote.voter_id in ids)
        table = VoteTable(self._clients.postgres())
        listed = sorted(ids)
        rows: dict[str, str] = {}
        for start in range(0, len(listed), IDS_AT_ONCE):
            rows |= table.choices(listed[start : start + IDS_AT_ONCE])
        return Holdings(rows, queued, in_process, parked)

    def close(self) -> None:
        self._clients.close()

    def _newest(self, ids: set[str], *, in_process: bool) -> dict[str, str]:
        votes = _votes(self._queue.messages(in_process=in_process))
        return {vote.voter_id: vote.choice for vote in votes if vote.voter_id in ids}

    def _parked(self) -> Iterator[Vote]:
        return _votes(parked.letter.message for parked in DeadLetters(self._clients.redis()).read())


def _votes(messages: Iterator[bytes]) -> Iterator[Vote]:
    for message in messages:
        try:
            yield parse(message)
        except InvalidVote:  # it belongs to no voter
            continue


def account(voters: list[Voter], held: Holdings) -> Accounts:
    """Compute the accounts of *voters*."""
    sums: Counter[str] = Counter()
    for voter in voters:
        if voter.id is not None:
            sums += _account(voter, voter.id, held)
    return Accounts(**{field.name: sums[field.name] for field in fields(Accounts)})


def _account(voter: Voter, voter_id: str, held: Holdings) -> Counter[str]:
    accepted = sum(cast.outcome == "accepted" for cast in voter.casts)
    parked = min(held.parked[voter_id], accepted)
    sums = Counter(accepted=accepted, parked=parked)
    has_row = voter_id in held.rows
    if accepted == parked:
        return sums + Counter(rows_of_maybes=int(has_row))
    where = "rows" if has_row else "in_process" if voter_id in held.in_process else "queued"
    is_somewhere = where != "queued" or voter_id in held.queued
    sums += Counter({where: int(is_somewhere), "superseded": accepted - parked - 1})
    final = held.queued.get(voter_id) or held.in_process.get(voter_id) or held.rows.get(voter_id)
    allowed = possible_choices(voter, any_accepted=parked > 0)
    is_right = final in allowed
    return sums + Counter(right=int(is_right), wrong=int(not is_right), unsure=int(is_right and len(allowed) > 1))


def possible_choices(voter: Voter, *, any_accepted: bool = False) -> set[str]:
    """The choices that may count for *voter*: the last accepted one, and those of maybes after it.

    Set *any_accepted* if one of the accepted votes, unknown which, was parked.
    """
    found: set[str] = set()
    for cast in reversed(voter.casts):
        if cast.outcome != "refused":
            found.add(cast.choice)
        if cast.outcome == "accepted" and not any_accepted:
            break
    return found
