"""One run of the worker: votes from the Redis list into the Postgres table, until a newer run takes over."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
from redis.exceptions import RedisError

from voting.batch import Batch, Counted, Sorted, sort_out
from voting.cadence import Cadence
from voting.clients import Clients
from voting.comparison import compare
from voting.dead_letter import DeadLetter
from voting.fault import REFUSED, Fault, Kind, explain
from voting.fence import HandedBack, HandedOutAnew, Superseded
from voting.handover import fence_off
from voting.observability import MetricUnit, logger, metrics, publish
from voting.queue_view import TROUBLE
from voting.roles import grant
from voting.sampling import Sampler
from voting.sieve import PATIENCE_S, Sieve
from voting.tally import VoteTable
from voting.trial import TakenNow
from voting.trouble import Trouble
from voting.vote import Vote
from voting.vote_queue import NotAList, VoteQueue

WAIT_S = 0.2  # for a vote; also how late a run notices that it is superseded, or that another moved a vote for it
STOP_BEFORE_END_S = 18.0  # a batch may last as long as its statement timeout
LONGEST_BACKOFF_S = 1.0
RETRIES_AT_ONCE = 5  # of two writers who met
FLUSH_METRICS_EVERY_S = 10.0


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
    ) -> None:
        """Work until *remaining_s* is nearly used up; call *changed* after each commit that changed rows.

        *next_turn_at* tells when what was changed is shown next (`time.monotonic`). A database that calls itself busy
        or away is believed for *patience_s*; then one of the messages may be what makes it say so.
        """
        self._clients = clients
        self._settings = clients.settings
        self._remaining_s = remaining_s
        self._changed = changed
        self._queue = VoteQueue(clients.redis())
        self._sieve = Sieve(self._settings.batch_votes, self._stranger_meets, patience_s)
        self._token: int | None = None
        self._failures = 0
        self._retries = 0
        self._last_error: Exception | None = None
        self._trouble = Trouble(clients.redis(), TROUBLE, "no batch gets through; what waits is kept in Redis")
        self._cause = ""  # of it, in words for an operator
        self._flushed_at = time.monotonic()
        self._told = Sampler()
        self._cadence = Cadence(next_turn_at)
        self._beside = ThreadPoolExecutor(1, "look-ahead")  # no thread before it is first used
        self.counted = Counted()

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
            self._beside.shutdown()
            publish()
        if self._failures:
            raise RunFailed(f"nothing more could be stored: {self._cause}") from self._last_error
        return self.counted

    def _step(self, done: Batch) -> Batch:
        """Acknowledge *done*, record the next batch, and return it, to be acknowledged in turn."""
        try:
            self._gauge()
            token = self._token or self._begin()
            if done.was_all:
                self._rest()
            began = time.monotonic()
            claimed = self._claim(done, token)
            if claimed.messages:
                self._cadence.claimed(began)
                return self._record(claimed, token)
            return self._wait()
        except HandedOutAnew:
            logger.warning("a batch was handed out again before it was acknowledged; it is claimed anew")
            return Batch()
        except NotAList as error:
            return self._stumble(error)
        except (psycopg.Error, RedisError) as error:
            return self._stumble(error)

    def _wait(self) -> Batch:
        """Wait for a vote. Where none comes, what is held waits for nothing any more."""
        if self._queue.wait(WAIT_S):
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

    def _begin(self) -> int:
        """Take the fence, having seen to it that there is one, and that the tally is right."""
        # Handed back, the database is another worker's: what its operator removed is not made again.
        if self._queue.backlog().handed_back_s is not None:
            self._token = fence_off(self._clients, self._queue)
            return self._token
        table = VoteTable(self._clients.postgres())
        if self._install(table):
            table = self._limited(table)
            if compare(self._clients.postgres()):
                self._changed()
        self._token = table.take_fence(self._queue.greatest_token())
        logger.info("began a run", token=self._token)
        return self._token

    def _install(self, table: VoteTable) -> bool:
        """Install the tally; return whether this version's is there, in place of an older one's that may stay."""
        try:
            if table.install():
                logger.info("installed the tally")
                self._changed()
        except psycopg.errors.InsufficientPrivilege as error:
            if not table.follows():
                raise
            logger.warning("the tally stays as an older version made it", detail=explain(error))
            return False
        return True

    def _limited(self, table: VoteTable) -> VoteTable:
        """*table*, or one whose session has no more rights than a run needs: on the first run there is no role yet."""
        try:
            if not grant(self._clients.postgres()):
                return table
        except psycopg.errors.InsufficientPrivilege as error:
            logger.warning("the sessions keep all rights of the login", detail=explain(error))
            return table
        self._clients.forget_postgres()
        return VoteTable(self._clients.postgres())

    def _claim(self, done: Batch, token: int) -> Sorted:
        """Acknowledge *done*, and return what comes next: read beside the last transaction, or claimed now.

        What was read ahead is believed where the list begins with it after the acknowledgement: it would not after
        Redis lost its data, and what is stored next would then acknowledge votes that nobody has stored. What is held
        is claimed again and passed over, if it is still there.
        """
        ahead = done.ahead
        held = [letter.message for letter in self._sieve.held]
        most = len(held) + self._sieve.most
        most_bytes = sum(map(len, held)) + self._settings.batch_bytes
        messages = self._queue.claim(
            token,
            most=1 if ahead.messages else most,
            most_bytes=most_bytes,
            acknowledge=done.size,
            dead=done.dead,
        )
        if ahead.messages:
            if messages == ahead.messages[:1]:
                return ahead
            messages = self._queue.claim(token, most=most, most_bytes=most_bytes)
        if messages[: len(held)] == held:
            messages = messages[len(held) :]
        else:
            self._sieve.drop()
        return Sorted(messages, *sort_out(messages))

    def _look_ahead(self, behind: int) -> Sorted:
        try:
            messages = self._queue.look_ahead(
                behind, most=self._settings.batch_votes, most_bytes=self._settings.batch_bytes
            )
        except RedisError:  # the claim that comes next meets the same, and tells
            return Sorted()
        return Sorted(messages, *sort_out(messages))

    def _record(self, batch: Sorted, token: int) -> Batch:
        """Store *batch*; while Postgres is at it, read the next one."""
        ahead: Future[Sorted] | None = None
        size, held = len(batch.messages), len(self._sieve.held)
        was_all = size < self._sieve.most

        def read_ahead() -> None:
            nonlocal ahead
            if not was_all and not self._sieve.is_hunting:
                ahead = self._beside.submit(self._look_ahead, size)

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
        self._measure(len(batch.votes), changed, dead, (time.perf_counter() - started) * 1000)
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
        if count := self._told.admit("refused"):
            logger.warning("a batch was refused", votes=len(batch.votes), cause=fault.sentence(), count=count)
        return self._park(self._sieve.refuse(batch.messages, batch.votes, fault))

    def _park(self, dead: list[DeadLetter] | None) -> Batch:
        """Go on, with *dead* parked by the next claim; or come back later, where the sieve says to wait."""
        if dead is None and self._last_error:
            return self._stumble(self._last_error)
        if dead:
            self._measure(0, 0, dead, 0.0)
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

    def _measure(self, stored: int, changed: int, dead: list[DeadLetter], batch_ms: float) -> None:
        counted = self.counted
        counted.stored += stored
        counted.changed += changed
        counted.parked += len(dead)
        counted.batches += 1
        for reason in sorted({letter.reason for letter in dead}):
            if count := self._told.admit(reason, sum(letter.reason == reason for letter in dead)):
                what = "the database refuses a vote" if reason == REFUSED else "parked what is no vote"
                logger.warning(what, reason=reason, count=count)
        metrics.add_metric("VotesStored", MetricUnit.Count, stored)
        metrics.add_metric("VotesParked", MetricUnit.Count, len(dead))
        metrics.add_metric("BatchSize", MetricUnit.Count, stored + len(dead))
        metrics.add_metric("BatchTime", MetricUnit.Milliseconds, batch_ms)

    def _gauge(self) -> None:
        """Tell every few seconds how things stand: above all while no batch gets through."""
        if time.monotonic() - self._flushed_at > FLUSH_METRICS_EVERY_S:
            backlog = self._queue.backlog()
            self._flushed_at = time.monotonic()
            metrics.add_metric("QueueLength", MetricUnit.Count, backlog.length)
            metrics.add_metric("NotCountedFor", MetricUnit.Seconds, backlog.behind_s)
            metrics.add_metric("DeadLetters", MetricUnit.Count, backlog.dead)
            publish()
