"""Fan-out at any size: simulated time, with the product's own planner and delivery.

`voting.broadcast.planner` plans the turns and `voting.broadcast.delivery` hands out connections and records progress,
as they do in the worker and in ws_broadcast. The simulation stands in for what surrounds them: API Gateway's throttle,
which votes share, Lambda's execution environments and asynchronous invocations, and the latency of posts.

To make a million subscribers affordable, one simulated subscriber may stand for *weight* real ones. All rates are
divided by the weight; the planner sees the real numbers.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from bench.simulation.conditions import Conditions, Measurements
from bench.simulation.delivery import UnresumableDelivery
from bench.simulation.gateway import Gateway
from bench.simulation.registry import Registry
from bench.simulation.worker import Worker
from voting.broadcast.delivery import LINGER_S, Delivery, measured
from voting.broadcast.feed import Limits
from voting.broadcast.planner import HEAD_START_S, Audience, Shard
from voting.broadcast.post_schedule import BACKOFF_S, LONGEST_BACKOFF_S
from voting.broadcast.posting_loop import ANSWER_WITHIN_S, IN_FLIGHT, SLOW_AFTER_S
from voting.jitter import full_jitter_s
from voting.results.results import Results

STEP_S = 0.005  # between a shard's looks at its responses
LATENCIES = 4096  # drawn once, then used in turn
POLL_S = 0.02  # between the worker's turns


class World:
    """The simulated clock with everything that happens on it."""

    def __init__(self, conditions: Conditions, worker: Worker, *, is_resumable: bool = True) -> None:
        """Let *worker* decide under *conditions*; *is_resumable* deliveries keep progress, as the product's do."""
        self.conditions = conditions
        self.now = 0.0
        self.measurements = Measurements()
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
        self.held = [0.0] * (conditions.subscribers // weight)  # when the figures on each screen were made
        self.warm = 0  # idle execution environments
        self.busy = 0
        self.queued: deque[Shard] = deque()
        self._sizes = [len(members) * weight for members in self.registry.buckets]
        self._worker = worker
        self._is_resumable = is_resumable
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def run(self, until_s: float) -> Measurements:
        """Simulate until *until_s* and return the measurements; a world runs once."""
        self.after(0.0, self._look)
        while self._events and self._events[0][0] <= until_s:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = until_s
        self.gateway.admits(self.now)
        self.measurements.votes, self.measurements.votes_refused = self.gateway.votes, self.gateway.votes_refused
        self.measurements.oldest_s = max(
            max(self.measurements.ages_s, default=0.0),
            max((self.now - at for number, at in enumerate(self.held) if not self.is_hanging(number)), default=0.0),
        )
        return self.measurements

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, happen))

    def version(self) -> int:
        """The newest version: results change with every poll, and the version is the time in milliseconds."""
        return 1 + int(self.now / POLL_S) * int(POLL_S * 1000)

    def is_hanging(self, number: int) -> bool:
        share = self.conditions.hanging_share
        return bool(share) and number % round(1 / share) == 7

    def newest(self) -> Results:
        return Results(self.version(), ())

    def sent(self, connection_id: str, version: int) -> None:
        """Record that a subscriber received *version*."""
        number = int(connection_id)
        self.measurements.ages_s.append(self.now - self.held[number])
        self.held[number] = max(self.held[number], version / 1000)

    # ------------------------------------------------------------ The worker and Lambda

    def _look(self) -> None:
        audience = Audience(self._sizes, self.registry.delivered, self.registry.posts_per_s, self.registry.served)
        self.measurements.estimates.append(audience.posts_per_s)
        for shard in self._worker.turn(self.version(), audience, self.now):
            self._invoke(replace(shard, at=1 + int(self.now * 1000)))
        self.after(POLL_S, self._look)

    def _invoke(self, shard: Shard) -> None:
        self.measurements.shards += 1
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
        feed: Delivery | UnresumableDelivery
        if self._is_resumable:
            feed = Delivery(shard, self.registry, self.newest, lambda: self.now)
        else:
            feed = UnresumableDelivery(shard, self.registry, self.version())
        Invocation(self, shard, feed).step()

    def end(self) -> None:
        """Free one execution environment for the next shard in the queue."""
        self.busy -= 1
        self.warm += 1
        if self.queued:
            self._arrive(self.queued.popleft())


class Invocation:
    """One run of ws_broadcast: what `voting.broadcast.poster` does, in simulated time."""

    def __init__(self, world: World, shard: Shard, feed: Delivery | UnresumableDelivery) -> None:
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
        self._answers: list[tuple[float, str, bool, int]] = []  # heap: time, connection, is it a 429, version
        self._resting: list[tuple[float, str]] = []
        self._hanging: deque[tuple[float, str]] = deque()  # time of the post, connection
        freezes = world.rng.random() < conditions.lost_share
        self._freezes_at = world.now + world.rng.uniform(0, 2) if freezes else math.inf

    def step(self) -> None:
        """Read responses, begin the posts that may begin, and schedule the next step or finish."""
        world = self._world
        if world.now >= self._freezes_at:
            world.after(30.0, world.end)  # until the function times out
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
        world.measurements.posts += weight
        world.measurements.by_second[second] = world.measurements.by_second.get(second, 0) + weight
        if not world.gateway.admits(now):
            world.measurements.throttled += weight
            heapq.heappush(self._answers, (now + 0.005, connection_id, True, 0))
        elif world.is_hanging(int(connection_id)):
            self._hanging.append((now, connection_id))
        else:
            latency_s = world.latencies[(self._begun * 7919) % LATENCIES]
            heapq.heappush(self._answers, (now + latency_s, connection_id, False, self._feed.version))

    def _is_quiet(self, now: float) -> bool:
        """Whether only hanging posts are left, and they have had their time."""
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
