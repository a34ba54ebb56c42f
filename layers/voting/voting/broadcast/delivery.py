"""One shard of a broadcast: a part of the audience is posted the newest results, bucket after bucket."""

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

REFRESH_S = 0.25  # after so long it looks for newer results, and records what is delivered
READ_AHEAD = 2000  # subscribers; a bucket counts as sent what was newest when it was read
LINGER_S = 1.0  # for the last answers: one connection that hangs must not keep a whole bucket from its next frame
LEAST_S = 1.0  # for posting, however little time is left: so that every attempt gets somewhere
TO_END_S = 5.0  # of the function's time: for the last answers, and for recording
MEASURED_FROM = 4 * IN_FLIGHT  # posts; fewer say more about one round trip than about many


class NothingToSend(Exception):
    """Nobody has written a snapshot yet."""


class Registry(Protocol):
    """What a delivery needs of `subscribers.Subscribers`; the simulation has one without a store."""

    def read(self, numbers: Sequence[int], at: int) -> list[Bucket]: ...
    def mark_delivered(self, versions: Mapping[int, int], before: Mapping[int, str]) -> None: ...
    def mark_halfway(self, bucket: Bucket, after: str, least: int) -> None: ...


@dataclass(slots=True)
class _Pass:
    """One bucket on its way."""

    bucket: Bucket
    least: int  # the version that everybody in it has, once it is done
    taken: int = 0
    open: int = 0  # taken, and nobody knows yet what became of them
    reached: int = 0

    @property
    def is_done(self) -> bool:
        return self.taken == len(self.bucket.connection_ids) and not self.open

    @property
    def is_in_vain(self) -> bool:
        """Whether nobody at all was reached: the fault is the gateway's or the network's, and not a subscriber's."""
        return self.taken > 0 and not self.reached


class Delivery:
    """What the poster asks for the next connection and its frame, and tells whom it is done with.

    A delivery that is overtaken goes on with the newest results; whoever was served before gets them with the next
    one. What counts as delivered to a bucket is the least version that anybody in it was sent, and nothing before
    everybody was: whom a deadline leaves out is served first next time, from there on where this one stopped.
    """

    def __init__(
        self,
        shard: Shard,
        registry: Registry,
        newest: Callable[[], Results | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Deliver to *shard*'s buckets of *registry* what *newest* returns, on a *clock* in seconds.

        Raises:
            NothingToSend: there are no results.
        """
        self._shard = shard
        self._registry = registry
        self._newest = newest
        self._clock = clock
        self._begun: dict[int, _Pass] = {}  # by bucket, until it is done
        self._done: list[_Pass] = []  # to be recorded
        self.in_vain: list[int] = []  # buckets of which nobody was reached: not recorded, so they are set off again
        self._of: dict[str, _Pass] = {}  # where each open connection belongs
        self._has_ended = False
        self._ids = self._pull()
        self._failure: RedisError | None = None
        self._frame = b""
        self.version = -1  # of the frame in hand
        self.started_at = self.last_at = clock()  # last: when a connection was handed out
        self.taken = 0
        self._recorded: set[int] = set()
        self._others: set[int] = set()  # buckets that another attempt serves
        self._refresh()
        if self.version < 0:
            raise NothingToSend

    def next(self) -> tuple[str, bytes] | None:
        """Hand out the next connection and the newest frame; None at the end, or where the registry is away."""
        try:
            connection_id = next(self._ids, None)
        except RedisError as error:  # what is in flight ends well; then `finish` tells
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
        # Whoever hangs is waited for a little. The other buckets need not wait for that: they are due again.
        if self._has_ended and self._failure is None and len(self._done) >= len(self._begun):
            self._record_if_possible()

    def finish(self) -> list[int]:
        """Record what is delivered, and how far the rest is; return the buckets for which there was no time.

        Raises:
            RedisError: the registry was away, now or before. What is not recorded is set off again.
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
        """From the beginning until the latest connection was handed out: who is slow to answer does not count."""
        return self.last_at - self.started_at

    def _pull(self) -> Iterator[str]:
        for numbers in self._groups():
            # Invokes come at least once, and in any order: what another attempt does or has done is left to it.
            read = self._registry.read(numbers, self._shard.at)
            buckets = [each for each in read if not each.has(self._shard.version or self.version)]
            self._others |= set(numbers).difference(each.number for each in buckets)
            # Whoever subscribes from now on is sent at least this version as its first results.
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
        """The shard's buckets, as many at a time as are read ahead."""
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
        except RedisError as error:  # `finish` tells
            self._failure = error

    @staticmethod
    def _served(pass_: _Pass, open_: Mapping[str, object]) -> str | None:
        """The last of the connections up to which all are settled."""
        taken = pass_.bucket.connection_ids[: pass_.taken]
        first_open = next((place for place, each in enumerate(taken) if each in open_), len(taken))
        return taken[first_open - 1] if first_open else None


def measured(shard: Shard, posts: int, took_s: float) -> float | None:
    """What the estimate of a shard's posts a second becomes, now that this one began *posts* within *took_s*.

    None where they were too few to tell.
    """
    if posts < MEASURED_FROM or not took_s:
        return None
    return learned(shard.posts_per_s, (posts - IN_FLIGHT) / took_s, kept_pace=shard.keeps_pace(posts, took_s))


def deliver(
    shard: Shard, subscribers: Subscribers, newest: Callable[[], Results | None], poster: Poster, remaining_s: float
) -> Outcome:
    """Post the newest results to everybody in *shard*, forget who is gone, and record what was delivered.

    It stops in time where *remaining_s* are not enough for everybody.

    Raises:
        NothingToSend: there are no results.
        poster.Forbidden: the management API refuses us; nothing more is recorded.
        RedisError: the registry is away. What is not recorded is set off again.
    """
    delivery = Delivery(shard, subscribers, newest)
    within_s = max(LEAST_S, min(shard.within_s, remaining_s - TO_END_S))
    outcome = poster.serve(delivery, Limits(shard.pace, HEAD_START_S, within_s, LINGER_S))
    if outcome.gone:
        subscribers.remove(outcome.gone)
    if undone := delivery.finish():
        tell("time is up before everybody was posted to", buckets=undone, throttled=outcome.throttled)
    if delivery.in_vain:
        tell("nobody in these buckets could be reached; they are posted to again", buckets=delivery.in_vain)
    estimate = measured(shard, delivery.taken, delivery.took_s)
    if estimate is not None and not outcome.throttled:  # a throttle says nothing about us
        subscribers.mark_speed(estimate)
    return outcome
