"""A world in which fan-out can be tried at any size: simulated time, and the product's own decisions.

`voting.broadcast.planner.TurnPlanner` plans and `voting.broadcast.delivery.Delivery` hands out and records, as in the
worker and in ws_broadcast. What is simulated is what is around them: API Gateway's throttle with the votes in it,
Lambda's environments and its asynchronous invokes, and posts whose answers take their time.

To make a million affordable, one simulated subscriber may stand for *weight* real ones: all rates are divided by it,
and the planner is told the real numbers.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from voting.broadcast.delivery import LINGER_S, Delivery, measured
from voting.broadcast.feed import Limits
from voting.broadcast.planner import HEAD_START_S, PRIOR_POSTS_PER_S, Audience, Budget, Shard, TurnPlanner
from voting.broadcast.post_schedule import BACKOFF_S, LONGEST_BACKOFF_S
from voting.broadcast.posting_loop import ANSWER_WITHIN_S, IN_FLIGHT, SLOW_AFTER_S
from voting.broadcast.subscribers import BUCKETS, Bucket
from voting.jitter import full_jitter_s
from voting.results.results import Results

STEP_S = 0.005  # how often a shard looks at its answers and begins new posts
LATENCIES = 4096  # drawn once, and dealt in turn
POLL_S = 0.02  # how often the worker looks: votes come all the time


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the world is like."""

    subscribers: int
    weight: int = 1
    votes_per_s: float = 3000.0
    throttle_per_s: float = 10_000.0  # of all APIs of an account and region
    throttle_burst: float = 5000.0
    post_median_s: float = 0.02
    post_sigma: float = 0.5  # of the lognormal distribution
    posts_per_s: float = 6000.0  # that the processor of one shard is good for: 512 MB of memory have 0.3 of a core
    hanging_share: float = 0.01  # of the subscribers: their posts are never answered
    environments: int = 16
    invoke_median_s: float = 0.02
    cold_start_s: float = 0.8
    twice_share: float = 0.01  # of the invokes: they come again, some seconds later
    lost_share: float = 0.01  # of the shards: the environment freezes in the middle, and nothing more is heard of it
    time_limit_s: float = math.inf  # posting that a function has time for
    seed: int = 5


class Worker(Protocol):
    """Whoever decides what is set off; the product's planner, or none."""

    def turn(self, version: int, audience: Audience, now: float) -> Sequence[Shard]: ...


class Planned:
    """The product."""

    def __init__(self, budget: Budget) -> None:
        self._planner = TurnPlanner(budget)

    def turn(self, version: int, audience: Audience, now: float) -> Sequence[Shard]:
        return self._planner.turn(version, audience, now).shards


class Unplanned:
    """Every change to everybody, by as many shards as there are, as often as the least interval and they allow."""

    def __init__(self, least_interval_s: float, shards: int) -> None:
        self._least_interval_s = least_interval_s
        self._shards = shards
        self._next_at = 0.0
        self._until = [0.0] * shards
        self._promised = [0] * shards

    def turn(self, version: int, audience: Audience, now: float) -> Sequence[Shard]:
        if now < self._next_at:
            return []
        self._next_at = now + self._least_interval_s
        todo = []
        for number in range(self._shards):
            buckets = tuple(range(number, BUCKETS, self._shards))
            sent = min(audience.delivered.get(bucket, 0) for bucket in buckets)
            if sent >= version or (sent < self._promised[number] and now < self._until[number]):
                continue
            self._promised[number], self._until[number] = version, now + 5.0
            todo.append(Shard(buckets, sum(audience.sizes[bucket] for bucket in buckets), math.inf, 20.0))
        return todo


@dataclass(slots=True)
class Gateway:
    """One token bucket for posts and votes, which come steadily at random."""

    per_s: float
    burst: float
    votes_per_s: float
    rng: random.Random
    votes: int = 0
    votes_refused: int = 0
    _tokens: float = field(init=False)
    _at: float = 0.0
    _next_vote: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = self.burst
        self._next_vote = self._vote_after(0.0)

    def admits(self, now: float) -> bool:
        """Whether a post at *now* passes the throttle, after the votes that came before it."""
        while self._next_vote <= now:
            self.votes += 1
            self.votes_refused += not self._take(self._next_vote)
            self._next_vote = self._vote_after(self._next_vote)
        return self._take(now)

    def _vote_after(self, now: float) -> float:
        return now + self.rng.expovariate(self.votes_per_s) if self.votes_per_s else math.inf

    def _take(self, now: float) -> bool:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.per_s)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Registry:
    """`subscribers.Subscribers` without a store."""

    def __init__(self, subscribers: int) -> None:
        self.buckets: list[list[str]] = [
            [str(number) for number in range(bucket, subscribers, BUCKETS)] for bucket in range(BUCKETS)
        ]
        for members in self.buckets:
            members.sort()
        self.delivered: dict[int, int] = {}
        self.served: dict[int, int] = {}
        self._deliveries = itertools.count(1)
        self.posts_per_s = PRIOR_POSTS_PER_S
        self._halfway: dict[int, tuple[str, int]] = {}
        self._begun: dict[int, int] = {}

    def read(self, numbers: Sequence[int], at: int) -> list[Bucket]:
        ours = [number for number in numbers if not at or self._begun.get(number, 0) < at]
        self._begun |= dict.fromkeys(ours, at)
        return [self._bucket(number) for number in ours]

    def _bucket(self, number: int) -> Bucket:
        if number not in self._halfway:
            return Bucket(number, self.buckets[number], str(self.delivered.get(number, "")))
        after, least = self._halfway[number]
        return Bucket(number, [each for each in self.buckets[number] if each > after], "", least)

    def mark_delivered(self, versions: Mapping[int, int], before: Mapping[int, str]) -> None:  # noqa: ARG002 - no debts here
        for number, version in versions.items():
            self.delivered[number] = max(version, self.delivered.get(number, 0))
            self.served[number] = next(self._deliveries)
            self._halfway.pop(number, None)

    def mark_halfway(self, bucket: Bucket, after: str, least: int) -> None:
        self._halfway[bucket.number] = after, least


class Whole:
    """A delivery without progress: all of a shard from its beginning, one frame, and done at the end whatever came."""

    def __init__(self, shard: Shard, registry: Registry, version: int) -> None:
        self.version = version
        self._shard = shard
        self._registry = registry
        self._ids = (each for bucket in registry.read(shard.buckets, 0) for each in bucket.connection_ids)

    def next(self) -> tuple[str, bytes] | None:
        connection_id = next(self._ids, None)
        return None if connection_id is None else (connection_id, b"")

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        """Nobody asks."""

    def finish(self) -> None:
        self._registry.mark_delivered(dict.fromkeys(self._shard.buckets, self.version), {})


@dataclass(slots=True)
class Found:
    """What came of a run."""

    votes: int = 0
    votes_refused: int = 0
    posts: int = 0  # attempts, in real ones
    throttled: int = 0
    by_second: dict[int, int] = field(default_factory=dict)  # attempts
    ages_s: list[float] = field(default_factory=list)  # of what subscribers had, when they were sent something newer
    oldest_s: float = 0.0  # of what anybody was on, at any time
    shards: int = 0
    estimates: list[float] = field(default_factory=list)  # of a shard's posts a second

    def busiest(self, seconds: int, since_s: int = 0) -> float:
        """The most attempts a second, on the average of any so many whole seconds."""
        last = max(self.by_second, default=0)
        counts = [self.by_second.get(second, 0) for second in range(since_s, last + 1)]
        if len(counts) < seconds:
            return sum(counts) / seconds
        return max(sum(counts[at : at + seconds]) for at in range(len(counts) - seconds + 1)) / seconds

    @property
    def votes_refused_share(self) -> float:
        return self.votes_refused / max(1, self.votes)

    def age_s(self, share: float) -> float:
        """So large a share of the frames relieved somebody of figures no older than this."""
        ordered = sorted(self.ages_s)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)))] if ordered else math.inf


class World:
    """Everything at one time."""

    def __init__(self, conditions: Conditions, worker: Worker, *, whole: bool = False) -> None:
        """Let *worker* decide under *conditions*; *whole* deliveries are those without the product's progress."""
        self.conditions = conditions
        self.now = 0.0
        self.found = Found()
        self.rng = random.Random(conditions.seed)
        weight = conditions.weight
        self.gateway = Gateway(
            conditions.throttle_per_s / weight,
            conditions.throttle_burst / weight,
            conditions.votes_per_s / weight,
            random.Random(conditions.seed + 1),
        )
        self.registry = Registry(conditions.subscribers // weight)
        self.latencies = [
            self.rng.lognormvariate(math.log(conditions.post_median_s), conditions.post_sigma) for _ in range(LATENCIES)
        ]
        self.held = [0.0] * (conditions.subscribers // weight)  # when the figures that each has were made
        self.warm = 0  # environments that idle
        self.busy = 0
        self.queued: deque[Shard] = deque()
        self._sizes = [len(members) * weight for members in self.registry.buckets]
        self._worker = worker
        self._whole = whole
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def run(self, until_s: float) -> Found:
        """Let it go on until *until_s*; nothing is asked of it later."""
        self.after(0.0, self._look)
        while self._events and self._events[0][0] <= until_s:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = until_s
        self.gateway.admits(self.now)
        self.found.votes, self.found.votes_refused = self.gateway.votes, self.gateway.votes_refused
        self.found.oldest_s = max(
            max(self.found.ages_s, default=0.0),
            max((self.now - at for number, at in enumerate(self.held) if not self.is_hanging(number)), default=0.0),
        )
        return self.found

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, happen))

    def version(self) -> int:
        """Changes come all the time, so the newest version is of now: its number is the time in milliseconds."""
        return 1 + int(self.now / POLL_S) * int(POLL_S * 1000)

    def is_hanging(self, number: int) -> bool:
        share = self.conditions.hanging_share
        return bool(share) and number % round(1 / share) == 7

    def newest(self) -> Results:
        return Results(self.version(), ())

    def sent(self, connection_id: str, version: int) -> None:
        """Somebody has got *version*."""
        number = int(connection_id)
        self.found.ages_s.append(self.now - self.held[number])
        self.held[number] = max(self.held[number], version / 1000)

    # ------------------------------------------------------------ the worker, and Lambda

    def _look(self) -> None:
        audience = Audience(self._sizes, self.registry.delivered, self.registry.posts_per_s, self.registry.served)
        self.found.estimates.append(audience.posts_per_s)
        for shard in self._worker.turn(self.version(), audience, self.now):
            self._invoke(replace(shard, at=1 + int(self.now * 1000)))
        self.after(POLL_S, self._look)

    def _invoke(self, shard: Shard) -> None:
        self.found.shards += 1
        delay_s = self.rng.lognormvariate(math.log(self.conditions.invoke_median_s), 0.5)
        self.after(delay_s, lambda: self._arrive(shard))
        if self.rng.random() < self.conditions.twice_share:
            self.after(delay_s + self.rng.uniform(0, 10), lambda: self._arrive(shard))

    def _arrive(self, shard: Shard) -> None:
        if self.busy >= self.conditions.environments:
            self.queued.append(shard)
            return
        self.busy += 1
        start_s = 0.0 if self.warm else self.conditions.cold_start_s
        self.warm = max(0, self.warm - 1)
        self.after(start_s, lambda: self._start(shard))

    def _start(self, shard: Shard) -> None:
        feed: Delivery | Whole
        if self._whole:
            feed = Whole(shard, self.registry, self.version())
        else:
            feed = Delivery(shard, self.registry, self.newest, lambda: self.now)
        Invocation(self, shard, feed).step()

    def end(self) -> None:
        """One environment is free."""
        self.busy -= 1
        self.warm += 1
        if self.queued:
            self._arrive(self.queued.popleft())


class Invocation:
    """One shard on its way: what `voting.broadcast.poster` does, in simulated time."""

    def __init__(self, world: World, shard: Shard, feed: Delivery | Whole) -> None:
        conditions, weight = world.conditions, world.conditions.weight
        self._world = world
        self._feed = feed
        within_s = min(shard.within_s, conditions.time_limit_s)
        self._limits = Limits(shard.pace / weight, HEAD_START_S, within_s, LINGER_S)
        self._shard = shard
        self._began_at = self._quiet_at = world.now
        self._in_flight_most = max(1, IN_FLIGHT // weight)
        self._per_s = conditions.posts_per_s / weight
        self._begun = 0
        self._throttled = 0
        self._has_ended = False
        self._again: list[str] = []
        self._attempts: dict[str, int] = {}
        self._answers: list[tuple[float, str, bool, int]] = []  # a heap: when, whose, whether it is 429, version sent
        self._resting: list[tuple[float, str]] = []
        self._hanging: deque[tuple[float, str]] = deque()  # since when
        freezes = world.rng.random() < conditions.lost_share
        self._freezes_at = world.now + world.rng.uniform(0, 2) if freezes else math.inf

    def step(self) -> None:
        """Look at what was answered, begin what may begin, and come back."""
        world = self._world
        if world.now >= self._freezes_at:
            world.after(30.0, world.end)  # the function's timeout
            return
        self._hear(world.now)
        goes_on = world.now - self._began_at < self._limits.within_s
        if goes_on:
            self._begin(world.now)
        if (goes_on and (not self._has_ended or self._again or self._resting)) or not self._is_quiet(world.now):
            world.after(STEP_S, self.step)
            return
        self._finish()

    def _hear(self, now: float) -> None:
        while self._answers and self._answers[0][0] <= now:
            _, connection_id, is_throttled, version = heapq.heappop(self._answers)
            if is_throttled:
                self._throttled += 1
                attempts = self._attempts[connection_id] = self._attempts.get(connection_id, 0) + 1
                rest_s = full_jitter_s(attempts - 1, BACKOFF_S, LONGEST_BACKOFF_S, self._world.rng.uniform)
                heapq.heappush(self._resting, (now + rest_s, connection_id))
            else:
                self._world.sent(connection_id, version)
                self._feed.settle(connection_id)
        while self._resting and self._resting[0][0] <= now:
            self._again.append(heapq.heappop(self._resting)[1])
        while self._hanging and self._hanging[0][0] + ANSWER_WITHIN_S <= now:
            self._feed.settle(self._hanging.popleft()[1], is_reached=False)

    def _begin(self, now: float) -> None:
        elapsed_s = now - self._began_at
        may_begin = min(self._limits.allowed(elapsed_s), self._per_s * (elapsed_s + STEP_S)) - self._begun
        slow = sum(1 for since, _ in self._hanging if since + SLOW_AFTER_S <= now)
        room = self._in_flight_most - len(self._answers) - len(self._resting) - (len(self._hanging) - slow)
        for _ in range(int(min(may_begin, room))):
            if self._again:
                connection_id = self._again.pop()
            elif (post := self._feed.next()) is None:
                self._has_ended = True
                return
            else:
                connection_id = post[0]
            self._begun += 1
            self._post(connection_id, now)

    def _post(self, connection_id: str, now: float) -> None:
        world = self._world
        second, weight = int(now), world.conditions.weight
        world.found.posts += weight
        world.found.by_second[second] = world.found.by_second.get(second, 0) + weight
        if not world.gateway.admits(now):
            world.found.throttled += weight
            heapq.heappush(self._answers, (now + 0.005, connection_id, True, 0))
        elif world.is_hanging(int(connection_id)):
            self._hanging.append((now, connection_id))
        else:
            latency_s = world.latencies[(self._begun * 7919) % LATENCIES]
            heapq.heappush(self._answers, (now + latency_s, connection_id, False, self._feed.version))

    def _is_quiet(self, now: float) -> bool:
        """Nothing is left but those who hang, and they have had their time."""
        if self._answers:
            self._quiet_at = now
            return False
        return not self._hanging or now - self._quiet_at >= self._limits.linger_s

    def _finish(self) -> None:
        world = self._world
        for _, connection_id in self._hanging:
            self._feed.settle(connection_id, is_reached=False)
        self._feed.finish()
        if isinstance(self._feed, Delivery):
            estimate = measured(self._shard, self._feed.taken * world.conditions.weight, self._feed.took_s)
            if estimate is not None and not self._throttled:
                world.registry.posts_per_s = estimate
        world.end()
