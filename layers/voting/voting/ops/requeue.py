"""Requeueing dead letters, without overwriting newer choices of their voters."""

from collections import Counter

from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.queue.dead_letters import FIRST_PAGE, DeadLetters, Moved, Parked, Place, fitting
from voting.vote import InvalidVote, parse


class Requeueing:
    """A walk over the letters of one reason, or all. Each page goes to the tail of the list, as its oldest messages.

    The voters may have voted since. So a letter moves only if it is a valid vote now and its voter has neither a row
    nor another vote in the list. *force* moves all letters except those that were cut: an older choice may then win
    over a newer one, and a message that is still invalid becomes a dead letter again.
    """

    def __init__(self, clients: Clients, reason: str | None, place: Place, *, force: bool) -> None:
        self._clients = clients
        self._letters = DeadLetters(clients.redis())
        self._choices = clients.settings.question.labels
        self._reason = reason
        self._force = force
        self._most = FIRST_PAGE
        self.place = place
        self.moved = 0
        self.left: Counter[str] = Counter()  # by reason, how many did not move

    def step(self) -> None:
        """Requeue the letters of the next page. They become older than those of the page before.

        Raises:
            dead_letters.TooManyQueued, vote_queue.NotAList: no letter of this page was moved.
        """
        first, page = self._letters.read_back(self.place, self._most)
        found = [parked for parked in page if self._reason in {None, parked.letter.reason}]
        left: Counter[str] = Counter()
        votes = self._votes(found, left)
        if votes:
            done = self._move(first, len(page), votes, left)
            left["out_of_place"] += done.gone
            self.moved += done.moved
        self.left += left
        self.place = Place(first, self.place.left - len(found))
        self._most = fitting(page) if page else FIRST_PAGE

    def document(self) -> dict[str, object]:
        return {"requeued": self.moved, "left": {why: count for why, count in self.left.items() if count}}

    def _votes(self, found: list[Parked], left: Counter[str]) -> list[tuple[Parked, str]]:
        votes = []
        for parked in found:
            if parked.letter.is_cut:
                left["cut"] += 1
                continue
            try:
                votes.append((parked, parse(parked.letter.message, self._choices).voter_id))
            except InvalidVote:
                if self._force:
                    votes.append((parked, ""))
                else:
                    left["still_no_vote"] += 1
        return votes

    def _move(self, first: int, page: int, votes: list[tuple[Parked, str]], left: Counter[str]) -> Moved:
        if self._force:
            return self._letters.requeue(first, page, votes, unless_queued=False)
        table = VoteTable(self._clients.postgres())
        # A vote is in the list, in process or in the table. With the table locked, it cannot move from one to the other
        # between the two checks.
        with table.standing_still():
            voted = table.choices({voter_id for _, voter_id in votes})
            free = [(parked, voter_id) for parked, voter_id in votes if voter_id not in voted]
            done = self._letters.requeue(first, page, free, unless_queued=True)
        left["voted_since"] += len(votes) - len(free)
        left["queued_since"] += len(free) - done.moved - done.gone
        return done
