"""One shard of a broadcast: posts the newest results to its part of the audience, bucket by bucket."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from redis.exceptions import RedisError

from voting.broadcast.feed import Limits
from voting.broadcast.planner import HEAD_START_S, Shard, learned
from voting.broadcast.post_schedule import Outcome
from voting.broadcast.poster import Poster
from voting.broadcast.posting_loop import IN_FLIGHT
from voting.broadcast.subscribers import Bucket, Subscribers
from voting.observability import tell
from voting.results.results import Results

REFRESH_S = 0.25  # how often to look for newer results, and to record what is delivered
READ_AHEAD = 2000  # subscribers; a bucket is recorded with the version that was newest when it was read
LINGER_S = 1.0  # for the last responses: one hanging connection must not keep a whole bucket from its next frame
LEAST_S = 1.0  # for posting, even if less time is left: every attempt makes some progress
TO_END_S = 5.0  # of the function's time, reserved for the last responses and for recording
MEASURED_FROM = 4 * IN_FLIGHT  # posts; with fewer, the time of a single round trip dominates


class NothingToSend(Exception):
    """No snapshot has been written yet."""


class Registry(Protocol):
    """The part of `subscribers.Subscribers` that a delivery uses; the simulation has one without a store."""

    def read(self, numbers: Sequence[int], at: int) -> list[Bucket]: ...
    def mark_delivered(self, versions: Mapping[int, int], before: Mapping[int, str]) -> None: ...
    def mark_halfway(self, bucket: Bucket, after: str, least: int) -> None: ...


@dataclass(slots=True)
class _Pass:
    """The progress of one bucket."""

    bucket: Bucket
    least: int  # the oldest version that a subscriber of it has, once it is done
    taken: int = 0  # connections handed out
    open: int = 0  # of those, the ones that are not settled yet
    reached: int = 0  # sent a frame, or gone

    @property
    def is_done(self) -> bool:
        return self.taken == len(self.bucket.connection_ids) and not self.open

    @property
    def is_in_vain(self) -> bool:
        """Return whether no subscriber at all was reached: the fault is the gateway's or the network's."""
        return self.taken > 0 and not self.reached


class Delivery:
    """The feed of the poster: hands out connections with the newest frame, and records which buckets are done.

    If newer results come during a delivery, the rest of the subscribers get those; the others get them with the next
    delivery. A bucket is recorded once all its subscribers are settled, with the oldest version that any of them was
    sent. A bucket that a deadline cuts short comes first in the next turn, which resumes where this one stopped.
    """

    def __init__(
        self,
        shard: Shard,
        registry: Registry,
        newest: Callable[[], Results | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Deliver what *newest* returns to the buckets of *shard* in *registry*; *clock* returns seconds.

        Raises:
            NothingToSend: there are no results.
        """
        self._shard = shard
        self._registry = registry
        self._newest = newest
        self._clock = clock
        self._begun: dict[int, _Pass] = {}  # by bucket, until the bucket is done
        self._done: list[_Pass] = []  # not recorded yet
        self.in_vain: list[int] = []  # buckets without a subscriber reached: not recorded, so they are due again
        self._of: dict[str, _Pass] = {}  # by open connection
        self._has_ended = False
        self._ids = self._pull()
        self._failure: RedisError | None = None
        self._frame = b""
        self.version = -1  # of the current frame
        self.started_at = self.last_at = clock()  # last_at: when the latest connection was handed out
        self.taken = 0
        self._recorded: set[int] = set()
        self._others: set[int] = set()  # buckets that another attempt serves or has served
        self._refresh()
        if self.version < 0:
            raise NothingToSend

    def next(self) -> tuple[str, bytes] | None:
        """Hand out the next connection and the newest frame; None at the end, or if the registry is unavailable."""
        try:
            connection_id = next(self._ids, None)
        except RedisError as error:  # requests in flight still complete; `finish` raises it
            self._failure = error
            return None
        self._has_ended = connection_id is None
        return None if connection_id is None else (connection_id, self._frame)

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        """Note that *connection_id* was sent its frame or is gone, or that it could not be reached."""
        pass_ = self._of.pop(connection_id)
        pass_.open -= 1
        pass_.reached += is_reached
        self._note(pass_)
        # The last responses may take LINGER_S. The buckets that do not wait for them are recorded now, so that the
        # worker can send them the next version.
        if self._has_ended and self._failure is None and len(self._done) >= len(self._begun):
            self._record_if_possible()

    def finish(self) -> list[int]:
        """Record what is delivered, and how far the other buckets are; return the buckets that are not done.

        Raises:
            RedisError: the registry was unavailable, now or earlier. What is not recorded is sent again.
        """
        if self._failure is not None:
            raise self._failure
        self._record()
        for pass_ in self._begun.values():
            if pass_.reached and (after := self._served(pass_, self._of)):
                self._registry.mark_halfway(pass_.bucket, after, pass_.least)
        seen_to = self._recorded | self._others | set(self.in_vain)
        return [number for number in self._shard.buckets if number not in seen_to]

    @property
    def took_s(self) -> float:
        """Time from the start until the latest connection was handed out, without the wait for the last responses."""
        return self.last_at - self.started_at

    def _pull(self) -> Iterator[str]:
        for numbers in self._groups():
            # Invocations come at least once, and in any order: skip what another attempt serves or has served.
            read = self._registry.read(numbers, self._shard.at)
            buckets = [each for each in read if not each.has(self._shard.version or self.version)]
            self._others |= set(numbers).difference(each.number for each in buckets)
            # A client that subscribes from now on gets at least this version as its first results.
            passes = [_Pass(each, self.version if each.least is None else each.least) for each in buckets]
            self._begun |= {pass_.bucket.number: pass_ for pass_ in passes}
            for pass_ in passes:
                self._note(pass_)
                for connection_id in pass_.bucket.connection_ids:
                    yield self._take(connection_id, pass_)

    def _take(self, connection_id: str, pass_: _Pass) -> str:
        now = self.last_at = self._clock()
        if now >= self._refresh_at:
            self._refresh()
            self._record()
        pass_.taken += 1
        pass_.open += 1
        self.taken += 1
        self._of[connection_id] = pass_
        return connection_id

    def _groups(self) -> Iterator[Sequence[int]]:
        """Yield the buckets of the shard in groups of about READ_AHEAD subscribers."""
        buckets, subscribers = self._shard.buckets, self._shard.subscribers
        step = max(1, READ_AHEAD * len(buckets) // max(1, subscribers))
        for first in range(0, len(buckets), step):
            yield buckets[first : first + step]

    def _refresh(self) -> None:
        self._refresh_at = self._clock() + REFRESH_S
        results = self._newest()
        if results is not None and results.version > self.version:
            self.version, self._frame = results.version, results.frame()

    def _note(self, pass_: _Pass) -> None:
        if pass_.is_done:
            del self._begun[pass_.bucket.number]
            if pass_.is_in_vain:
                self.in_vain.append(pass_.bucket.number)
            else:
                self._done.append(pass_)

    def _record(self) -> None:
        if self._done:
            self._registry.mark_delivered(
                {pass_.bucket.number: pass_.least for pass_ in self._done},
                {pass_.bucket.number: pass_.bucket.before for pass_ in self._done},
            )
            self._recorded |= {pass_.bucket.number for pass_ in self._done}
            self._done.clear()

    def _record_if_possible(self) -> None:
        try:
            self._record()
        except RedisError as error:  # `finish` raises it
            self._failure = error

    @staticmethod
    def _served(pass_: _Pass, open_: Mapping[str, object]) -> str | None:
        """Return the last connection before the first one that is still open; None if there is none."""
        taken = pass_.bucket.connection_ids[: pass_.taken]
        first_open = next((place for place, each in enumerate(taken) if each in open_), len(taken))
        return taken[first_open - 1] if first_open else None


def measured(shard: Shard, posts: int, took_s: float) -> float | None:
    """Return the new estimate of a shard's posts per second, after this one began *posts* within *took_s*.

    None if there were too few posts to measure.
    """
    if posts < MEASURED_FROM or not took_s:
        return None
    return learned(shard.posts_per_s, (posts - IN_FLIGHT) / took_s, kept_pace=shard.keeps_pace(posts, took_s))


def deliver(
    shard: Shard, subscribers: Subscribers, newest: Callable[[], Results | None], poster: Poster, remaining_s: float
) -> Outcome:
    """Post the newest results to all subscribers in *shard*, remove those that are gone, and record what was delivered.

    If *remaining_s* is too short for all of them, it stops in time.

    Raises:
        NothingToSend: there are no results.
        poster.Forbidden: the management API refuses our requests; nothing more is recorded.
        RedisError: the registry is unavailable. What is not recorded is sent again.
    """
    delivery = Delivery(shard, subscribers, newest)
    within_s = max(LEAST_S, min(shard.within_s, remaining_s - TO_END_S))
    outcome = poster.serve(delivery, Limits(shard.pace, HEAD_START_S, within_s, LINGER_S))
    if outcome.gone:
        subscribers.remove(outcome.gone)
    if undone := delivery.finish():
        tell("time ran out before all subscribers were posted to", buckets=undone, throttled=outcome.throttled)
    if delivery.in_vain:
        tell("no subscriber in these buckets could be reached; they are tried again", buckets=delivery.in_vain)
    estimate = measured(shard, delivery.taken, delivery.took_s)
    if estimate is not None and not outcome.throttled:  # a throttled shard shows the limit of the account, not its own
        subscribers.mark_speed(estimate)
    return outcome
