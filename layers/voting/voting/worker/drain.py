"""One run of the worker: votes from the Redis list into the Postgres table, until a newer run takes over."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import psycopg
from redis.exceptions import RedisError

from voting.clients import Clients
from voting.database.fault import Fault, Kind, explain
from voting.database.trial import TakenNow
from voting.database.vote_table import VoteTable
from voting.fence import Superseded
from voting.observability import logger, publish, tell
from voting.queue.dead_letter import DeadLetter
from voting.queue.dead_letter_room import DeadLetterRoom
from voting.queue.queue_view import TROUBLE
from voting.queue.trouble import Trouble
from voting.queue.vote_queue import HandedBack, HandedOutAgain, NotAList, VoteQueue
from voting.vote import Vote
from voting.worker.batch import Batch, Counted, Sorted
from voting.worker.beginning import begin
from voting.worker.intake import Intake
from voting.worker.journal import Journal
from voting.worker.pacing import Cadence
from voting.worker.sieve import PATIENCE_S, Sieve

WAIT_S = 0.2  # for a vote; also how late a run notices that it is superseded, or that another moved a vote for it
STOP_BEFORE_END_S = 18.0  # a batch may last as long as its statement timeout
LONGEST_BACKOFF_S = 1.0
RETRIES_AT_ONCE = 5  # of two writers who met


class RunFailed(Exception):
    """The run ended on the clock without ever reaching both stores, or on what only an operator can mend."""


class Drain:
    """Claims, upserts and acknowledges batch after batch. Any fault means: drop the batch in memory, claim it again.

    What the database refuses is looked for in smaller and smaller batches, and parked unless everything is refused.
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

        *next_turn_at* tells when what was changed is shown next (`time.monotonic`). A database that calls itself busy
        or away is believed for *patience_s*; then one of the messages may be what makes it say so. Where nothing is
        queued, it looks every *wait_s* whether its time is up.
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
        self._cause = ""  # of it, in words for an operator
        self._cadence = Cadence(next_turn_at)

    @property
    def counted(self) -> Counted:
        """What the run has done so far."""
        return self._journal.counted

    def run(self) -> Counted:
        """Drain, wait for more, drain.

        Raises:
            RunFailed: from its last error, where the run ends in failure, so that the alarm on errors tells.
        """
        done = Batch()
        try:
            while self._remaining_s() > STOP_BEFORE_END_S:
                done = self._step(done)
        except Superseded:
            self.counted.superseded = True
        except HandedBack:
            logger.info("the draining is handed back to another worker; this run ends")
            self.counted.handed_back = True
            self._failures = 0
            self._trouble.over()
        finally:
            self._intake.close()
            publish()
        if self._failures:
            raise RunFailed(f"nothing more could be stored: {self._cause}") from self._last_error
        return self.counted

    def _step(self, done: Batch) -> Batch:
        """Acknowledge *done*, record the next batch, and return it, to be acknowledged in turn."""
        try:
            self._journal.gauge()
            token = self._token = self._token or begin(self._clients, self._queue, self._changed)
            if done.was_all:
                self._rest()
            began = time.monotonic()
            claimed = self._intake.claim(done, token)
            if claimed.messages:
                self._cadence.claimed(began)
                return self._record(claimed, token)
            return self._wait()
        except HandedOutAgain:
            tell("a batch was handed out again before it was acknowledged; it is claimed again")
            return Batch()
        except NotAList as error:
            return self._stumble(error)
        except (psycopg.Error, RedisError) as error:
            return self._stumble(error)

    def _wait(self) -> Batch:
        """Wait for a vote. Where none comes, what is held waits for nothing any more."""
        if self._queue.wait(self._wait_s):
            return Batch()
        if self._sieve.held:
            return self._park(self._sieve.judge())
        self._sieve.idle()
        self._failures = 0
        self._trouble.over()
        return Batch()

    def _rest(self) -> None:
        while (rest_s := self._cadence.rest_s(time.monotonic())) > 0:
            time.sleep(rest_s)

    def _record(self, batch: Sorted, token: int) -> Batch:
        """Store *batch*; while Postgres is at it, read the next one."""
        ahead: Future[Sorted] | None = None
        size, held = len(batch.messages), len(self._sieve.held)
        was_all = size < self._sieve.most

        def read_ahead() -> None:
            nonlocal ahead
            if not was_all and not self._sieve.is_hunting:
                ahead = self._intake.read_ahead(size)

        started = time.perf_counter()
        try:
            changed, refused = self._store(batch.votes, token, read_ahead) if batch.votes else (0, None)
        except TakenNow:
            self._sieve.mended()
            return Batch()
        finally:
            if ahead:
                ahead.exception()  # in any case: it is done before anything else is tried
        if refused:
            return self._refused(batch, refused)
        dead = self._sieve.passed(batch.dead, proves=bool(batch.votes))
        if self._sieve.held:
            return Batch()
        self._failures = self._retries = 0
        self._trouble.over()
        self._cadence.stored(time.monotonic())
        if changed:
            self._changed()
        self._journal.measure(len(batch.votes), changed, dead, (time.perf_counter() - started) * 1000)
        return Batch(held + size, dead, ahead.result() if ahead else Sorted(), was_all)

    def _store(self, votes: list[Vote], token: int, meanwhile: Callable[[], object]) -> tuple[int, Exception | None]:
        """Store *votes*; return how many rows changed, and what refused them, if anything did."""
        table = VoteTable(self._clients.postgres())
        try:
            sieve = self._sieve
            return table.record(votes, token, meanwhile, in_haste=sieve.in_haste, refused=sieve.suspects), None
        except (Superseded, TakenNow):
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise what they like, and no message may stop the others
            return 0, error

    def _refused(self, batch: Sorted, error: Exception) -> Batch:
        """The database refuses votes that we hold valid, or is away."""
        fault = Fault.of(error)
        if fault.code is None:
            self._clients.forget_postgres()  # who knows where the client stopped
        self._last_error = error
        self._journal.refused(len(batch.votes), fault)
        return self._park(self._sieve.refuse(batch.messages, batch.votes, fault))

    def _park(self, dead: list[DeadLetter] | None) -> Batch:
        """Go on, with *dead* parked by the next claim; or come back later, where the sieve says to wait."""
        if dead is None and self._last_error:
            return self._stumble(self._last_error)
        if dead:
            self._journal.measure(0, 0, dead, 0.0)
        return Batch(len(dead or []), dead or [])

    def _stranger_meets(self, refused: Sequence[Vote]) -> Fault | None:
        """What would become of any vote: of a made-up voter, of whom nothing stays. Raises TakenNow as `try_out`."""
        if self._token is None:
            return None
        try:
            VoteTable(self._clients.postgres()).try_out(self._token, refused)
        except (Superseded, TakenNow):
            raise
        except Exception as error:  # noqa: BLE001 - as in _store
            return Fault.of(error)
        return None

    def _stumble(self, error: Exception) -> Batch:
        """Forget the connections and what was in memory, and come back after a while (full jitter).

        Every failure of a batch comes through here, except where the search for a refused message goes on.
        """
        fault = Fault.of(error)
        if fault.kind is Kind.RETRY and self._retries < RETRIES_AT_ONCE:
            self._retries += 1
            return Batch()
        self._last_error, self._cause = error, explain(error)
        self._failures += 1
        self._trouble.met(self._cause)
        self._sieve.drop()
        self._clients.forget_postgres()
        self._clients.redis().connection_pool.disconnect()
        if fault.kind is Kind.RENEW:
            self._token = None  # begin again, with an installation and the rights on it
        time.sleep(random.uniform(0, min(LONGEST_BACKOFF_S, 0.1 * 2 ** min(self._failures, 10))))  # noqa: S311
        return Batch()
