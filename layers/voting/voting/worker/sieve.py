"""Finds the messages that the database refuses, and tells them from a fault of the whole table.

docs/decisions/0020-refused-votes.md says why it is done so.
"""

import time
from collections.abc import Callable, Sequence

from voting.database.fault import Fault, Kind
from voting.database.trial import TakenNow
from voting.queue.dead_letter import REFUSED, DeadLetter
from voting.vote import Vote

SUSPICIOUS = 3  # voters in a row whose message was refused alone: it may be the table
MOST_SUSPECTS = 24  # voters, where the table was found at fault before
MOST_HELD = 100  # messages: all of them are read again with each claim
MOST_MENDED = 5  # times in a row that what was refused would be taken: a trigger that refuses at random, say
TRIES = 3  # of a message alone, where the database says that it is busy or away
STEP, SLOW_STEP = 2, 16  # by what a refused batch is divided; each slow failure may last as long as a timeout
StrangerMeets = Callable[[Sequence[Vote]], Fault | None]
SLOW = {Kind.WAIT, Kind.RETRY}  # the server says that it is busy or away
PATIENCE_S = 20.0  # with a database that says it is busy or away, before a message is suspected of making it say so


class Sieve:
    """How many messages to try next, and which were refused alone and are not decided on yet.

    The held messages stay the oldest in process: nothing has to be put back where the table turns out to be at fault,
    whatever dies. They are parked as soon as a vote behind them is stored, or a made-up voter's would be, in a
    transaction in which they are refused once more.
    """

    def __init__(self, full: int, stranger_meets: StrangerMeets, patience_s: float = PATIENCE_S) -> None:
        """Begin with batches of *full* messages.

        *stranger_meets* tries a made-up voter, and takes it back; it raises TakenNow where that one would be stored
        and so would one of the votes that it is given.
        """
        self.most = self._full = full
        self.in_haste = False  # a slow failure is looked for: statements may take less time than usual
        self.held: list[DeadLetter] = []  # oldest first; messages that are no votes among them
        self._stranger_meets = stranger_meets
        self._patience_s = patience_s
        self._well_at = time.monotonic()  # when a batch was stored last, or nothing waited
        self._began_again = False  # since a batch was stored last
        self._mended = 0  # since a batch was stored last
        self._reset()
        self._enough = SUSPICIOUS

    @property
    def suspects(self) -> list[Vote]:
        """The held votes that have to be refused once more, beside one that is not, before they are parked.

        Not those for which the server said that it is busy or away: they had their tries.
        """
        return list(self._suspects) if self._mended < MOST_MENDED else []

    @property
    def is_hunting(self) -> bool:
        """Whether anything was refused since the last full batch."""
        return self.most < self._full or bool(self.held)

    def idle(self) -> None:
        """Nothing waits."""
        self._well_at = time.monotonic()

    def passed(self, dead: Sequence[DeadLetter], *, proves: bool) -> list[DeadLetter]:
        """A batch is through; return what is to be parked with it: the held messages, then the *dead* of the batch.

        Where it held no vote it *proves* nothing, and what is held has to be acknowledged first.
        """
        # Slower than by doubling: where large batches are what is refused, fewer of them fail.
        self.most = min(self._full, self.most + self.most // 4 + 1)
        self.in_haste = self.in_haste and self.is_hunting
        self._tries = 0
        if self.held and not proves:
            self.held += dead
            return []
        self._well_at = time.monotonic()
        self._began_again = False
        self._mended = 0
        self._enough = SUSPICIOUS
        return [*self.release(), *dead]

    def mended(self) -> None:
        """One of the suspects would be stored now: begin again with the oldest."""
        self._mended += 1
        self.drop()

    def refuse(self, messages: Sequence[bytes], votes: Sequence[Vote], fault: Fault) -> list[DeadLetter] | None:
        """The batch behind the held messages met *fault*; return what is to be parked, or None where to wait."""
        if not self._is_believed(fault):
            return None
        is_slow = fault.kind in SLOW
        if len(messages) > 1:
            self.most = max(1, len(messages) // (SLOW_STEP if is_slow else STEP))
            self.in_haste = self.in_haste or is_slow
            return []
        self.most = 1
        self._tries += 1
        if is_slow and self._tries < TRIES:
            self.in_haste = True
            return []
        self._hold(messages[0], votes[0], fault)
        return self.judge() if len(self._voters) >= self._enough or len(self.held) >= MOST_HELD else []

    def judge(self) -> list[DeadLetter] | None:
        """Decide on what is held though no vote behind it was stored; as `refuse`."""
        try:
            met = self._stranger_meets(self.suspects)
        except TakenNow:
            self.mended()
            return []
        if met is None or not (met.key in self._keys or met.kind in SLOW):
            return self.release()
        self._enough = min(2 * self._enough, MOST_SUSPECTS)  # look further next time: it may be these voters after all
        self.drop()
        return None

    def release(self) -> list[DeadLetter]:
        """Hold nothing more, and return what was held."""
        held = self.held
        self._reset()
        return held

    def drop(self) -> None:
        """Forget what is held: it will be claimed again as if it had never been tried."""
        self._reset()

    def _reset(self) -> None:
        self.held = []
        self._keys: set[str] = set()  # of the faults that the held ones met
        self._suspects: set[Vote] = set()
        self._voters: set[str] = set()  # several messages of one voter are no sign that it is the table
        self._tries = 0

    def _hold(self, message: bytes, vote: Vote, fault: Fault) -> None:
        self.held.append(DeadLetter(REFUSED, message, sqlstate=fault.code, error=fault.name))
        self._keys.add(fault.key)
        if fault.kind not in SLOW:
            self._suspects.add(vote)
        self._voters.add(vote.voter_id)
        self._tries = 0

    def _is_believed(self, fault: Fault) -> bool:
        """Whether the *fault* is to be taken for one of the messages or the table, and not for one of the server."""
        if fault.kind is Kind.REFUSE:
            return True
        if fault.kind is Kind.RENEW:  # a trigger that asks for a missing table says the same as a missing installation
            began_again, self._began_again = self._began_again, True
            return began_again
        if time.monotonic() - self._well_at < self._patience_s and not self.in_haste:
            return False
        met = self._stranger_meets(())
        return met is None or met.kind not in SLOW
