"""One run of the worker: votes from the Redis list into the Postgres table, until a newer run takes over."""

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import psycopg
from redis.exceptions import RedisError

from voting.cadence import Cadence
from voting.clients import Clients
from voting.comparison import compare
from voting.dead_letter import DeadLetter
from voting.fence import HandedBack, HandedOutAnew, Superseded
from voting.handover import fence_off
from voting.observability import MetricUnit, logger, metrics, publish
from voting.queue_view import TROUBLE
from voting.reason import explain
from voting.roles import grant
from voting.sampling import Sampler
from voting.tally import VoteTable
from voting.trouble import Trouble
from voting.vote import InvalidVote, Vote, parse
from voting.vote_queue import NotAList, VoteQueue

WAIT_S = 0.2  # for a vote; also how late a run notices that it is superseded, or that another moved a vote for it
STOP_BEFORE_END_S = 18.0  # a batch may last as long as its statement timeout
LONGEST_BACKOFF_S = 1.0
FLUSH_METRICS_EVERY_S = 10.0
# A table of ours was dropped or emptied, or another database has its place, in which we have no rights yet.
UNINSTALLED = (psycopg.errors.UndefinedTable, psycopg.errors.NoDataFound, psycopg.errors.InsufficientPrivilege)


class RunFailed(Exception):
    """The run ended on the clock without ever reaching both stores, or on what only an operator can mend."""


@dataclass(slots=True)
class Counted:
    """What a run has done."""

    stored: int = 0  # messages that were votes
    changed: int = 0  # rows inserted or changed
    parked: int = 0
    batches: int = 0
    superseded: bool = False
    handed_back: bool = False

    def as_fields(self) -> dict[str, int | bool]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """Messages as they were claimed, and what they are."""

    messages: list[bytes] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is to be acknowledged with the next claim, and the messages behind it where they have been read already."""

    size: int = 0
    dead: list[DeadLetter] = field(default_factory=list)
    ahead: _Sorted = field(default_factory=_Sorted)
    was_all: bool = False  # nothing waited behind it when it was claimed


class Drain:
    """Claims, upserts and acknowledges batch after batch. Any fault means: drop the batch in memory, claim it again."""

    def __init__(
        self,
        clients: Clients,
        remaining_s: Callable[[], float],
        changed: Callable[[], None],
        next_turn_at: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Work until *remaining_s* is nearly used up; call *changed* after each commit that changed rows.

        *next_turn_at* tells when what was changed is shown next (`time.monotonic`).
        """
        self._clients = clients
        self._settings = clients.settings
        self._remaining_s = remaining_s
        self._changed = changed
        self._queue = VoteQueue(clients.redis())
        self._most = self._settings.batch_votes
        self._token: int | None = None
        self._failures = 0
        self._last_error: Exception | None = None
        self._trouble = Trouble(clients.redis(), TROUBLE, "nothing is counted; what waits is kept in Redis")
        self._flushed_at = time.monotonic()
        self._junk = Sampler()
        self._cadence = Cadence(next_turn_at)
        self._beside = ThreadPoolExecutor(1, "look-ahead")  # no thread before it is first used
        self.counted = Counted()

    def run(self) -> Counted:
        """Drain, wait for more, drain.

        Raises:
            RunFailed: from its last error, where the run ends in failure, so that the alarm on errors tells.
        """
        done = _Batch()
        try:
            while self._remaining_s() > STOP_BEFORE_END_S:
                done = self._step(done)
        except Superseded:
            self.counted.superseded = True
        except HandedBack:
            logger.info("the draining is handed back to another worker; this run ends")
            self.counted.handed_back = True
            self._failures = 0
        finally:
            self._beside.shutdown()
            publish()
        if self._failures:
            raise RunFailed("the run ended before its stores came back") from self._last_error
        return self.counted

    def _step(self, done: _Batch) -> _Batch:
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
                batch = self._record(claimed, token)
            else:
                self._queue.wait(WAIT_S)
                batch = _Batch()
        except HandedOutAnew:
            logger.warning("a batch was handed out again before it was acknowledged; it is claimed anew")
            return _Batch()
        except NotAList as error:
            return self._stumble(error)
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
            logger.warning("the batch is tried again", error=type(error).__name__)
            return _Batch()
        except (psycopg.Error, RedisError) as error:
            return self._stumble(error)
        self._failures = 0
        self._trouble.over()
        return batch

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

    def _claim(self, done: _Batch, token: int) -> _Sorted:
        """Acknowledge *done*, and return what comes next: read beside the last transaction, or claimed now.

        What was read ahead is believed where the list begins with it after the acknowledgement: it would not after
        Redis lost its data, and what is stored next would then acknowledge votes that nobody has stored.
        """
        ahead = done.ahead
        messages = self._queue.claim(
            token,
            most=1 if ahead.messages else self._most,
            most_bytes=self._settings.batch_bytes,
            acknowledge=done.size,
            dead=done.dead,
        )
        if not ahead.messages:
            return _Sorted(messages, *sort_out(messages))
        if messages == ahead.messages[:1]:
            return ahead
        messages = self._queue.claim(token, most=self._most, most_bytes=self._settings.batch_bytes)
        return _Sorted(messages, *sort_out(messages))

    def _look_ahead(self, behind: int) -> _Sorted:
        try:
            messages = self._queue.look_ahead(
                behind, most=self._settings.batch_votes, most_bytes=self._settings.batch_bytes
            )
        except RedisError:  # the claim that comes next meets the same, and tells
            return _Sorted()
        return _Sorted(messages, *sort_out(messages))

    def _record(self, batch: _Sorted, token: int) -> _Batch:
        """Store *batch*; while Postgres is at it, read the next one."""
        ahead: Future[_Sorted] | None = None
        size = len(batch.messages)
        was_all = size < self._most

        def read_ahead() -> None:
            nonlocal ahead
            if not was_all:
                ahead = self._beside.submit(self._look_ahead, size)

        started = time.perf_counter()
        try:
            changed = VoteTable(self._clients.postgres()).record(batch.votes, token, read_ahead) if batch.votes else 0
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            return self._refused(batch.messages, error)
        finally:
            if ahead:
                ahead.exception()  # in any case: it is done before anything else is tried
        self._most = self._settings.batch_votes
        self._cadence.stored(time.monotonic())
        if changed:
            self._changed()
        self._measure(len(batch.votes), changed, batch.dead, (time.perf_counter() - started) * 1000)
        return _Batch(size, batch.dead, ahead.result() if ahead else _Sorted(), was_all)

    def _refused(self, messages: list[bytes], error: psycopg.Error) -> _Batch:
        """The database refuses a vote that we hold valid: halve the batch until that vote is alone, and park it."""
        if len(messages) > 1:
            self._most = len(messages) // 2
            return _Batch()
        logger.error("the database refuses a vote", error=type(error).__name__)
        self._most = self._settings.batch_votes
        dead = [DeadLetter("refused_by_database", messages[0])]
        self._measure(0, 0, dead, 0.0)
        return _Batch(1, dead)

    def _stumble(self, error: Exception) -> _Batch:
        """Forget the connections and what was in memory, and come back after a while (full jitter)."""
        self._last_error = error
        self._failures += 1
        self._trouble.met(error)
        self._clients.forget_postgres()
        self._clients.redis().connection_pool.disconnect()
        if isinstance(error, UNINSTALLED):
            self._token = None  # begin anew, with an installation and the rights on it
        time.sleep(random.uniform(0, min(LONGEST_BACKOFF_S, 0.1 * 2 ** min(self._failures, 10))))  # noqa: S311
        return _Batch()

    def _measure(self, stored: int, changed: int, dead: list[DeadLetter], batch_ms: float) -> None:
        counted = self.counted
        counted.stored += stored
        counted.changed += changed
        counted.parked += len(dead)
        counted.batches += 1
        for reason in sorted({letter.reason for letter in dead}):
            if count := self._junk.admit(reason, sum(letter.reason == reason for letter in dead)):
                logger.warning("parked what is no vote", reason=reason, count=count)
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


def sort_out(messages: Iterable[bytes]) -> tuple[list[Vote], list[DeadLetter]]:
    """Part votes from what is none, each in the order given."""
    votes, dead = [], []
    for message in messages:
        try:
            votes.append(parse(message))
        except InvalidVote as error:
            dead.append(DeadLetter(error.reason, message))
    return votes, dead
