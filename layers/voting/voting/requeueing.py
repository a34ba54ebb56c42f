"""Dead letters become votes again, where that harms nobody's newer choice."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice

from voting.clients import Clients
from voting.dead_letters import DeadLetters, Parked
from voting.tally import VoteTable
from voting.vote import InvalidVote, parse

AT_ONCE = 500  # letters that are moved in one step


@dataclass(frozen=True, slots=True)
class Requeued:
    """How many letters went back to the list, and why the others did not."""

    moved: int
    left: Counter[str]


def requeue(clients: Clients, *, reason: str | None, limit: int, force: bool) -> Requeued:
    """Queue up to *limit* letters again, as the oldest of what waits.

    Their voters may have voted since. So only those letters move that are votes now and whose voter has neither a row
    nor another vote in the list. *force* moves all but the cut ones: an older choice may then win over a newer one,
    and what is still no vote comes back as a dead letter.

    Raises:
        dead_letters.TooManyQueued: nothing more was moved.
    """
    letters = DeadLetters(clients.redis())
    found = list(islice(letters.read(reason), limit))
    left: Counter[str] = Counter()
    moved = 0
    # The newest first: each step goes behind (is older than) the one before it.
    for end in range(len(found), 0, -AT_ONCE):
        page = _votes(found[max(0, end - AT_ONCE) : end], left, force=force)
        moved += letters.requeue(page, unless_queued=False) if force else _unless_voted(clients, letters, page, left)
    return Requeued(moved, left)


def _votes(found: list[Parked], left: Counter[str], *, force: bool) -> list[tuple[Parked, str]]:
    votes = []
    for parked in found:
        if parked.letter.is_cut:
            left["cut"] += 1
            continue
        try:
            votes.append((parked, parse(parked.letter.message).voter_id))
        except InvalidVote:
            if force:
                votes.append((parked, ""))
            else:
                left["still_no_vote"] += 1
    return votes


def _unless_voted(clients: Clients, letters: DeadLetters, page: list[tuple[Parked, str]], left: Counter[str]) -> int:
    table = VoteTable(clients.postgres())
    # A vote is in the list, in process or in the table: with the table standing still, it cannot pass from one to the
    # other unseen.
    with table.standing_still():
        voted = table.choices({voter_id for _, voter_id in page})
        free = [(parked, voter_id) for parked, voter_id in page if voter_id not in voted]
        moved = letters.requeue(free, unless_queued=True)
    left["voted_since"] += len(page) - len(free)
    left["queued_since"] += len(free) - moved
    return moved
