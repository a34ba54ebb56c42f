"""Finds the messages that the database refuses, and distinguishes them from a fault of the whole table.

The reasons for this design are in docs/decisions/0020-refused-votes.md.
"""

import time
from collections.abc import Callable, Sequence

from voting.database.fault import Fault, Kind
from voting.database.trial import TakenNow
from voting.queue.dead_letter import REFUSED, DeadLetter
from voting.vote import Vote

SUSPICIOUS = 3  # voters in a row whose message was refused alone: then it may be the table
MOST_SUSPECTS = 24  # voters, if the table was found at fault before
MOST_HELD = 100  # messages: each claim reads all of them again
MOST_MENDED = 5  # times in a row that a refused vote would be stored after all: a trigger may refuse at random
TRIES = 3  # of a single message, if the database reports that it is busy or down
STEP, SLOW_STEP = 2, 16  # divisors of a refused batch; each slow failure may last as long as a timeout
StrangerMeets = Callable[[Sequence[Vote]], Fault | None]
SLOW = {Kind.WAIT, Kind.RETRY}  # the server reports that it is busy or down
PATIENCE_S = 20.0  # with a database that reports itself busy or down, before a message is suspected as the cause


class Sieve:
    """Decides how many messages to try next, and holds those that were refused alone until their fate is clear.

    The held messages stay the oldest in process, so nothing has to be put back if the table turns out to be at fault or
    a process dies. They are parked as soon as a later vote is stored, or a made-up voter's would be, in a transaction
    in which they are refused once more.
    """

    def __init__(self, full: int, stranger_meets: StrangerMeets, patience_s: float = PATIENCE_S) -> None:
        """Begin with batches of *full* messages.

        *stranger_meets* tries the vote of a made-up voter and rolls it back. It raises TakenNow if that vote and one of
        the votes that it is given would be stored.
        """
        self.most = self._full = full
        self.in_haste = False  # while a slow failure is searched for: statements may take less time than usual
        self.held: list[DeadLetter] = []  # oldest first, invalid messages included
        self._stranger_meets = stranger_meets
        self._patience_s = patience_s
        self._well_at = time.monotonic()  # when a batch was last stored, or nothing waited
        self._began_again = False  # since a batch was last stored
        self._mended = 0  # since a batch was last stored
        self._reset()
        self._enough = SUSPICIOUS

    @property
    def suspects(self) -> list[Vote]:
        """The held votes that must be refused once more, in a transaction that stores another, before they are parked.

        Votes for which the server reported that it is busy or down are not among them: they had their tries.
        """
        return list(self._suspects) if self._mended < MOST_MENDED else []

    @property
    def is_hunting(self) -> bool:
        """Whether anything was refused since the last full batch."""
        return self.most < self._full or bool(self.held)

    def idle(self) -> None:
        """Note that nothing waits."""
        self._well_at = time.monotonic()

    def passed(self, dead: Sequence[DeadLetter], *, proves: bool) -> list[DeadLetter]:
        """Note that a batch was stored; return what to park with it: the held messages, then the *dead* of the batch.

        A batch without a vote *proves* nothing. Then its dead letters are held too, behind the messages before them.
        """
        # Slower than doubling: if it is large batches that are refused, fewer of them fail.
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
        """Note that one of the suspects would be stored now, and begin again with the oldest message."""
        self._mended += 1
        self.drop()

    def refuse(self, messages: Sequence[bytes], votes: Sequence[Vote], fault: Fault) -> list[DeadLetter] | None:
        """Note that the batch after the held messages met *fault*; return what to park, or None to wait."""
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
        """Decide on the held messages although no later vote was stored; return as `refuse` does."""
        try:
            met = self._stranger_meets(self.suspects)
        except TakenNow:
            self.mended()
            return []
        if met is None or not (met.key in self._keys or met.kind in SLOW):
            return self.release()
        self._enough = min(2 * self._enough, MOST_SUSPECTS)  # hold more next time: it may be these voters after all
        self.drop()
        return None

    def release(self) -> list[DeadLetter]:
        """Hold nothing any more, and return what was held."""
        held = self.held
        self._reset()
        return held

    def drop(self) -> None:
        """Forget the held messages: they will be claimed again as if they had never been tried."""
        self._reset()

    def _reset(self) -> None:
        self.held = []
        self._keys: set[str] = set()  # of the faults that the held messages met
        self._suspects: set[Vote] = set()
        self._voters: set[str] = set()  # several messages of one voter do not suggest that it is the table
        self._tries = 0

    def _hold(self, message: bytes, vote: Vote, fault: Fault) -> None:
        self.held.append(DeadLetter(REFUSED, message, sqlstate=fault.code, error=fault.name))
        self._keys.add(fault.key)
        if fault.kind not in SLOW:
            self._suspects.add(vote)
        self._voters.add(vote.voter_id)
        self._tries = 0

    def _is_believed(self, fault: Fault) -> bool:
        """Whether *fault* lies with the messages or the table, and not with the server."""
        if fault.kind is Kind.REFUSE:
            return True
        if (
            fault.kind is Kind.RENEW
        ):  # a trigger that needs a missing table gives the same error as a missing installation
            began_again, self._began_again = self._began_again, True
            return began_again
        if time.monotonic() - self._well_at < self._patience_s and not self.in_haste:
            return False
        met = self._stranger_meets(())
        return met is None or met.kind not in SLOW
