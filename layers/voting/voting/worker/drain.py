"""One run of the worker: votes from the Redis list into the Postgres table, until a newer run takes over."""

import time
from collections.abc import Callable

import psycopg
from redis.exceptions import RedisError

from voting.clients import Clients
from voting.fence import Superseded
from voting.observability import logger, publish, tell
from voting.queue.dead_letter_room import DeadLetterRoom
from voting.queue.vote_queue import HandedBack, HandedOutAgain, NotAList, VoteQueue
from voting.worker.batch import Counted, ParsedMessages, PendingAck
from voting.worker.batch_writer import BatchWriter, NotStored
from voting.worker.failures import Failures
from voting.worker.fenced_table import FencedTable
from voting.worker.intake import Intake
from voting.worker.journal import Journal
from voting.worker.pacing import BatchPacing
from voting.worker.sieve import PATIENCE_S, Sieve

WAIT_S = 0.2  # for a vote; a run notices that late that it is superseded, or that another run moved a vote for it
STOP_BEFORE_END_S = 18.0  # a batch may last as long as its statement timeout


class RunFailed(Exception):
    """The run has ended in failure: a store was down to the end, or only an operator can mend the cause."""


class Drain:
    """The loop of a run: claims a batch, has it stored, and acknowledges it with the next claim.

    After any fault it drops the batch and claims it again.
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
        settings, redis = clients.settings, clients.redis()
        room = DeadLetterRoom(redis, settings.dead_letters, settings.dead_letter_bytes)
        self._remaining_s = remaining_s
        self._wait_s = wait_s
        self._queue = VoteQueue(redis)
        self._table = FencedTable(clients, self._queue, changed)
        self._pacing = BatchPacing(next_turn_at)
        self._failures = Failures(redis)
        self._journal = Journal(self._queue, room)
        sieve = Sieve(settings.batch_votes, self._table.fault_of_made_up_voter, patience_s)
        self._intake = Intake(self._queue, settings, sieve, room)
        self._writer = BatchWriter(self._table, sieve, self._journal, changed)

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
            self._failures.over()
        finally:
            self._intake.close()
            publish()
        if self._failures.last is not None:
            raise RunFailed(f"nothing more could be stored: {self._failures.cause}") from self._failures.last
        return self.counted

    def _step(self, done: PendingAck) -> PendingAck:
        """Acknowledge *done* and store the next batch; return what the next step acknowledges."""
        try:
            self._journal.gauge()
            claimed = self._claim(done, self._table.begin())
            return self._store(claimed) if claimed.messages else self._wait()
        except HandedOutAgain:
            tell("a batch was handed out again before it was acknowledged; it is claimed again")
        except NotStored as refusal:
            self._begin_again(refusal.error)
        except (NotAList, psycopg.Error, RedisError) as error:
            self._begin_again(error)
        return PendingAck()

    def _claim(self, done: PendingAck, token: int) -> ParsedMessages:
        """Acknowledge *done* and return the next messages, after a rest if no more waited behind *done*."""
        if done.was_last:
            while (rest_s := self._pacing.rest_s(time.monotonic())) > 0:
                time.sleep(rest_s)
        self._pacing.claimed(time.monotonic())
        return self._intake.claim(done, token)

    def _store(self, batch: ParsedMessages) -> PendingAck:
        """Store *batch* while the messages after it are read; return what the next claim acknowledges."""
        was_last = self._intake.is_last(batch)
        with self._intake.ahead_of(batch) as ahead:
            written = self._writer.write(batch, ahead.start)
        if written.is_stored:
            self._failures.over()
            self._pacing.stored(time.monotonic())
            return PendingAck(written.messages, written.dead, ahead.messages(), was_last)
        return PendingAck(written.messages, written.dead)

    def _wait(self) -> PendingAck:
        """Wait for a message. If none comes, decide on the held messages, since no later vote does."""
        if self._queue.wait(self._wait_s):
            return PendingAck()
        written = self._writer.decide_on_held()
        if written.is_stored:
            self._failures.over()
        return PendingAck(written.messages, written.dead)

    def _begin_again(self, error: Exception) -> None:
        """Forget the connections and the batch in memory, and pause for a random time (full jitter).

        Every failure of a batch comes through here, except while the search for a refused message goes on.
        """
        if self._failures.may_retry_at_once(error):
            return
        self._failures.met(error)
        self._writer.forget()
        self._table.reconnect(error)
        self._queue.reconnect()
        self._failures.pause()
