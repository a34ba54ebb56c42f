"""Stores a batch. If the database refuses it, smaller batches follow until the refused message is found and parked."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from voting.database.fault import Fault
from voting.database.trial import TakenNow
from voting.queue.dead_letter import DeadLetter
from voting.worker.batch import ParsedMessages
from voting.worker.fenced_table import FencedTable, Refused
from voting.worker.journal import Journal
from voting.worker.sieve import Sieve


class NotStored(Exception):
    """The database stores nothing now: the fault lies with itself or with the whole table."""

    def __init__(self, error: Exception) -> None:
        """Keep *error*, which the driver raised."""
        super().__init__()
        self.error = error


@dataclass(frozen=True, slots=True)
class Written:
    """What came of the oldest messages in process."""

    messages: int = 0  # how many are to be acknowledged, the dead letters included
    dead: list[DeadLetter] = field(default_factory=list)  # to be parked with the acknowledgement
    is_stored: bool = False  # whether nothing keeps the run from counting


class BatchWriter:
    """Stores batches, and parks a message that the database refuses, unless it refuses every message."""

    def __init__(self, table: FencedTable, sieve: Sieve, journal: Journal, changed: Callable[[], None]) -> None:
        """Write to *table*, and call *changed* after each commit that changed rows."""
        self._table = table
        self._sieve = sieve
        self._journal = journal
        self._changed = changed
        self._last_refusal: Exception | None = None

    def write(self, batch: ParsedMessages, before_wait: Callable[[], object]) -> Written:
        """Store *batch*; *before_wait* is called just before the wait for the database begins.

        Raises:
            NotStored: the database is down, or refuses everything.
            Superseded, psycopg.Error: as `FencedTable.store`.
        """
        started = time.perf_counter()
        sieve = self._sieve
        try:
            changed = self._table.store(batch.votes, before_wait, in_haste=sieve.in_haste, refused=sieve.suspects)
        except TakenNow:
            sieve.mended()
            return Written()
        except Refused as refusal:
            return self._search(batch, refusal.error)
        held = len(sieve.held)
        dead = sieve.passed(batch.dead, proves=bool(batch.votes))
        if sieve.held:
            return Written()
        if changed:
            self._changed()
        self._journal.measure(len(batch.votes), changed, dead, (time.perf_counter() - started) * 1000)
        return Written(held + len(batch.messages), dead, is_stored=True)

    def decide_on_held(self) -> Written:
        """Decide whether to park the held messages, although no later vote was stored.

        Raises:
            NotStored: the vote of a made-up voter is refused like them.
        """
        if self._sieve.held:
            return self._park(self._sieve.judge())
        self._sieve.idle()
        return Written(is_stored=True)

    def forget(self) -> None:
        """Forget the held messages: they will be claimed again as if they had never been tried."""
        self._sieve.drop()

    def _search(self, batch: ParsedMessages, error: Exception) -> Written:
        """Have the sieve search *batch* for the message that the database refuses, unless the database is down."""
        fault = Fault.of(error)
        self._last_refusal = error
        self._journal.refused(len(batch.votes), fault)
        return self._park(self._sieve.refuse(batch.messages, batch.votes, fault))

    def _park(self, dead: list[DeadLetter] | None) -> Written:
        """Report *dead* and return them; None means that the sieve says to wait."""
        if dead is None:
            assert self._last_refusal is not None  # noqa: S101 - for mypy: the sieve judges refused messages only
            raise NotStored(self._last_refusal)
        if dead:
            self._journal.measure(0, 0, dead, 0.0)
        return Written(len(dead), dead)
