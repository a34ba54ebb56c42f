"""One run of the worker: votes from the Redis list into the Postgres table, until a newer run takes over."""

import time
from collections.abc import Callable, Sequence

import psycopg
from redis.exceptions import RedisError

from voting.clients import Clients
from voting.database.fault import Fault, Kind, explain
from voting.database.trial import TakenNow
from voting.database.vote_table import VoteTable
from voting.fence import Superseded
from voting.jitter import full_jitter_s
from voting.observability import logger, publish, tell
from voting.queue.dead_letter import DeadLetter
from voting.queue.dead_letter_room import DeadLetterRoom
from voting.queue.queue_view import TROUBLE
from voting.queue.trouble import Trouble
from voting.queue.vote_queue import HandedBack, HandedOutAgain, NotAList, VoteQueue
from voting.vote import Vote
from voting.worker.batch import Counted, ParsedMessages, PendingAck
from voting.worker.beginning import begin
from voting.worker.intake import Intake
from voting.worker.journal import Journal
from voting.worker.pacing import BatchPacing
from voting.worker.sieve import PATIENCE_S, Sieve

WAIT_S = 0.2  # for a vote; a run notices that late that it is superseded, or that another run moved a vote for it
STOP_BEFORE_END_S = 18.0  # a batch may last as long as its statement timeout
BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 1.0
RETRIES_AT_ONCE = 5  # after a conflict of two writers


class RunFailed(Exception):
    """The run has ended in failure: a store was down to the end, or only an operator can mend the cause."""


class _Refused(Exception):
    """The database did not store a batch: it refuses votes that we hold valid, or it is down."""

    def __init__(self, error: Exception) -> None:
        """Keep *error*, which the driver raised."""
        super().__init__()
        self.error = error


class Drain:
    """Claims, stores and acknowledges batch after batch. After any fault it drops the batch and claims it again.

    A message that the database refuses is searched for in smaller and smaller batches. It is parked, unless the
    database refuses every message.
    """

    def __init__(
        self,
        clients: Clients,
        remaining_s: Callable[[], float],
        changed: Callable[[], None],
        next_turn_at: Callable[[], float] = lambda: 0.0,
        patience_s: float = PATIENCE_S,
        wait_s: float = WAIT_S,
    ) -> None:
        """Work until *remaining_s* is nearly used up; call *changed* after each commit that changed rows.

        *next_turn_at* returns the time of the next broadcast (`time.monotonic`). A database that reports itself busy or
        down is believed for *patience_s*; after that, a message may be the cause. With an empty queue, the run checks
        its time every *wait_s*.
        """
        self._clients = clients
        self._remaining_s = remaining_s
        self._changed = changed
        self._wait_s = wait_s
        self._queue = VoteQueue(clients.redis())
        self._sieve = Sieve(clients.settings.batch_votes, self._stranger_meets, patience_s)
        room = DeadLetterRoom(clients.redis(), clients.settings.dead_letters, clients.settings.dead_letter_bytes)
        self._intake = Intake(self._queue, clients.settings, self._sieve, room)
        self._journal = Journal(self._queue, room)
        self._token: int | None = None
        self._failures = 0
        self._retries = 0
        self._last_error: Exception | None = None
        self._trouble = Trouble(clients.redis(), TROUBLE, "no batch gets through; what waits is kept in Redis")
        self._cause = ""  # of the last failure, in words for an operator
        self._pacing = BatchPacing(next_turn_at)

    @property
    def counted(self) -> Counted:
        """What the run has done so far."""
        return self._journal.counted

    def run(self) -> Counted:
        """Drain the list, wait for more, drain it again.

        Raises:
            RunFailed: from its last error, if the run ends in failure, so that the alarm on errors goes off.
        """
        done = PendingAck()
        try:
            while self._remaining_s() > STOP_BEFORE_END_S:
                done = self._step(done)
        except Superseded:
            self.counted.superseded = True
        except HandedBack:
            logger.info("the draining is handed back to another worker; this run ends")
            self.counted.handed_back = True
            self._recovered()
        finally:
            self._intake.close()
            publish()
        if self._failures:
            raise RunFailed(f"nothing more could be stored: {self._cause}") from self._last_error
        return self.counted

    def _step(self, done: PendingAck) -> PendingAck:
        """Acknowledge *done* and store the next batch; return what the next step acknowledges."""
        try:
            self._journal.gauge()
            token = self._token = self._token or begin(self._clients, self._queue, self._changed)
            claimed = self._claim(done, token)
            return self._record(claimed, token) if claimed.messages else self._wait()
        except HandedOutAgain:
            tell("a batch was handed out again before it was acknowledged; it is claimed again")
            return PendingAck()
        except (NotAList, psycopg.Error, RedisError) as error:
            return self._stumble(error)

    def _claim(self, done: PendingAck, token: int) -> ParsedMessages:
        """Acknowledge *done* and return the next messages, after a rest if no more waited behind *done*."""
        if done.was_last:
            while (rest_s := self._pacing.rest_s(time.monotonic())) > 0:
                time.sleep(rest_s)
        self._pacing.claimed(time.monotonic())
        return self._intake.claim(done, token)

    def _wait(self) -> PendingAck:
        """Wait for a message. If none comes, judge the held messages, since no later vote decides on them."""
        if self._queue.wait(self._wait_s):
            return PendingAck()
        if self._sieve.held:
            return self._park(self._sieve.judge())
        self._sieve.idle()
        self._recovered()
        return PendingAck()

    def _record(self, batch: ParsedMessages, token: int) -> PendingAck:
        """Store *batch* while the messages after it are read; return what the next claim acknowledges."""
        started = time.perf_counter()
        was_last = self._intake.is_last(batch)
        try:
            with self._intake.ahead_of(batch) as ahead:
                changed = self._store(batch.votes, token, ahead.start)
        except TakenNow:
            self._sieve.mended()
            return PendingAck()
        except _Refused as refusal:
            return self._search(batch, refusal.error)
        held = len(self._sieve.held)
        dead = self._sieve.passed(batch.dead, proves=bool(batch.votes))
        if self._sieve.held:
            return PendingAck()
        self._recovered()
        self._pacing.stored(time.monotonic())
        if changed:
            self._changed()
        self._journal.measure(len(batch.votes), changed, dead, (time.perf_counter() - started) * 1000)
        return PendingAck(held + len(batch.messages), dead, ahead.messages(), was_last)

    def _store(self, votes: list[Vote], token: int, before_wait: Callable[[], object]) -> int:
        """Store *votes*; return how many rows changed.

        Raises:
            Superseded, TakenNow: as `VoteTable.record`.
            psycopg.Error: there is no connection to the database.
            _Refused: from any other error.
        """
        if not votes:
            return 0
        table, sieve = VoteTable(self._clients.postgres()), self._sieve
        try:
            return table.record(votes, token, before_wait, in_haste=sieve.in_haste, refused=sieve.suspects)
        except (Superseded, TakenNow):
            raise
        except Exception as error:  # drivers raise errors of many classes, and no message may stop the others
            raise _Refused(error) from error

    def _search(self, batch: ParsedMessages, error: Exception) -> PendingAck:
        """Have the sieve search *batch* for the message that the database refuses, unless the database is down."""
        fault = Fault.of(error)
        if fault.code is None:
            self._clients.forget_postgres()  # the client may have stopped anywhere in the protocol
        self._last_error = error
        self._journal.refused(len(batch.votes), fault)
        return self._park(self._sieve.refuse(batch.messages, batch.votes, fault))

    def _park(self, dead: list[DeadLetter] | None) -> PendingAck:
        """Have the next claim park *dead*; None means that the sieve says to wait."""
        if dead is None and self._last_error:
            return self._stumble(self._last_error)
        if dead:
            self._journal.measure(0, 0, dead, 0.0)
        return PendingAck(len(dead or []), dead or [])

    def _stranger_meets(self, refused: Sequence[Vote]) -> Fault | None:
        """Try the vote of a made-up voter, and keep nothing of it; return its fault. Raises TakenNow as `try_out`."""
        if self._token is None:
            return None
        try:
            VoteTable(self._clients.postgres()).try_out(self._token, refused)
        except (Superseded, TakenNow):
            raise
        except Exception as error:  # noqa: BLE001 - as in _store
            return Fault.of(error)
        return None

    def _recovered(self) -> None:
        """Note that nothing keeps the run from counting."""
        self._failures = self._retries = 0
        self._trouble.over()

    def _stumble(self, error: Exception) -> PendingAck:
        """Forget the connections and the batch in memory, and pause for a random time (full jitter).

        Every failure of a batch comes through here, except while the search for a refused message goes on.
        """
        fault = Fault.of(error)
        if fault.kind is Kind.RETRY and self._retries < RETRIES_AT_ONCE:
            self._retries += 1
            return PendingAck()
        self._last_error, self._cause = error, explain(error)
        self._failures += 1
        self._trouble.met(self._cause)
        self._sieve.drop()
        self._clients.forget_postgres()
        self._clients.redis().connection_pool.disconnect()
        if fault.kind is Kind.RENEW:
            self._token = None  # begin again: with an installation, and the rights on it
        time.sleep(full_jitter_s(self._failures, BACKOFF_S, LONGEST_BACKOFF_S))
        return PendingAck()
