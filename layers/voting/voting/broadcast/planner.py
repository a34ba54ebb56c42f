"""Plans a fan-out: which subscribers are sent the newest results next, by how many shards, and at which pace.

This module uses no clock, store or gateway: the worker and the simulation in bench/ run the same code.

The audience is served in turns. A turn takes the buckets that were served longest ago, as many as the budget covers in
TURN_S. The next turn begins when the budget has paid for this one. A small audience is served in a single turn, at most
once per least interval. A large one is served over several turns, each with the results that are newest by then. No
bucket waits longer than the others, however large the audience is and however often a shard is lost.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voting.results.results import PING_S

TURN_S = 10.0  # planned length of a turn; a shard may run for 30 s (template.yaml), which leaves room for delays
MOST_SHARDS = 16  # the number of environments that template.yaml reserves
SHARD_S = 1.0  # posting time that is worth an invocation: smaller shards cost cold starts and gain little
PATIENCE_S = 4.0  # extra time of a shard, on top of twice its planned time: 3 s for a hanging connection, and a margin
LONGEST_PATIENCE_S = 20.0  # a shard must end well within its 30 s
GRACE_S = 1.0  # for a shard to start and to end; after that, what it has not delivered is due again
HEAD_START_S = 0.5  # the burst of a shard, in seconds of its pace: gateways accept bursts (API Gateway 5,000)

PRIOR_POSTS_PER_S = 4000.0  # of one shard, without a recent measurement
LEAST_POSTS_PER_S, MOST_POSTS_PER_S = 100.0, 20_000.0
SILENCE_S = 600.0  # after this, a measurement is out of date: later shards may run on other machines
MEASUREMENT_WEIGHT = 0.25  # of a new measurement in the smoothed estimate
GROWTH = 1.1  # of the estimate, if a shard kept its pace and may have been able to do more

PINGS_SHARE = 0.05  # of the message budget, for pings and pongs together
LONGEST_PING_S = 540  # API Gateway closes a connection that is idle for ten minutes


@dataclass(frozen=True, slots=True)
class Budget:
    """The operator's limits: API Gateway bills each message, and its throttle is shared with the votes."""

    messages_per_s: float
    least_interval_s: float


@dataclass(frozen=True, slots=True)
class Audience:
    """The current state of the registry, by bucket: its size and the version that all its subscribers were sent."""

    sizes: Sequence[int]
    delivered: Mapping[int, int]  # without the buckets that are owed a resend
    posts_per_s: float = PRIOR_POSTS_PER_S  # of one shard, as measured
    served: Mapping[int, int] = field(default_factory=dict)  # by bucket, when it last was; any monotonic clock

    def lagging(self, version: int) -> list[int]:
        """Return the buckets whose subscribers lack *version*, those that were served longest ago first.

        The version alone does not give this order: buckets that are owed a resend have none, so the ones with the
        lowest numbers would always come first.
        """
        behind = [b for b, size in enumerate(self.sizes) if size and self.delivered.get(b, 0) < version]
        return sorted(behind, key=lambda bucket: (self.served.get(bucket, 0), self.delivered.get(bucket, 0)))


@dataclass(frozen=True, slots=True)
class Shard:
    """The work of one invocation of ws_broadcast."""

    buckets: tuple[int, ...]  # in the order in which they are due
    subscribers: int
    pace: float  # messages per second: its share of the budget
    within_s: float  # its time limit; soon after it, what is not delivered is given to other shards
    posts_per_s: float = PRIOR_POSTS_PER_S  # the estimate that the plan was made with
    version: int = 0  # the one to deliver; a bucket that already has it was served by another attempt
    at: int = 0  # attempt id: the time of the invocation, in ms since the epoch

    def as_event(self) -> dict[str, Any]:
        """Return the payload of the invocation."""
        return {
            "buckets": list(self.buckets),
            "subscribers": self.subscribers,
            "pace": round(self.pace, 1),
            "within_s": round(self.within_s, 1),
            "posts_per_s": round(self.posts_per_s, 1),
            "version": self.version,
            "at": self.at,
        }

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> "Shard":
        """Parse what `as_event` returns; an event with buckets only has no limit on its pace."""
        return cls(
            tuple(event["buckets"]),
            int(event.get("subscribers", 0)),
            float(event.get("pace", math.inf)),
            float(event.get("within_s", LONGEST_PATIENCE_S)),
            float(event.get("posts_per_s", PRIOR_POSTS_PER_S)),
            int(event.get("version", 0)),
            int(event.get("at", 0)),
        )

    def keeps_pace(self, messages: int, took_s: float) -> bool:
        """Return whether only its pace limited a shard that took *took_s* for *messages*."""
        paced_s = messages / self.pace - HEAD_START_S
        return paced_s > 0 and took_s <= 1.1 * paced_s


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards to invoke now, and the seconds until the budget has paid for them and the next turn may begin."""

    shards: tuple[Shard, ...]
    interval_s: float


def plan(
    waiting: Sequence[tuple[int, int]], budget: Budget, posts_per_s: float = PRIOR_POSTS_PER_S, version: int = 0
) -> Plan:
    """Plan a turn over *waiting*: pairs of bucket and size, due for *version*, in the order in which they are due.

    Every bucket of the turn is in exactly one shard. The paces of all shards add up to the budget.
    """
    per_s = min(budget.messages_per_s, MOST_SHARDS * posts_per_s)
    chosen = list(_turn(waiting, TURN_S * per_s))
    messages = sum(size for _, size in chosen)
    if not messages:
        return Plan((), budget.least_interval_s)
    # A bucket that is larger than a turn takes several: its shard stops midway, after LONGEST_PATIENCE_S.
    interval_s = max(budget.least_interval_s, min(messages / per_s, LONGEST_PATIENCE_S))
    count = min(MOST_SHARDS, len(chosen), math.ceil(messages / (max(interval_s, SHARD_S) * posts_per_s)))
    posting_s = max(interval_s, messages / (count * posts_per_s))
    within_s = min(LONGEST_PATIENCE_S, PATIENCE_S + 2 * posting_s)
    shards = []
    for buckets in _spread(chosen, count):
        size = sum(size for _, size in buckets)
        names = tuple(bucket for bucket, _ in buckets)
        pace = budget.messages_per_s * size / messages
        shards.append(Shard(names, size, pace, within_s, posts_per_s, version))
    return Plan(tuple(shards), interval_s)


def round_s(subscribers: int, budget: Budget, posts_per_s: float = PRIOR_POSTS_PER_S) -> float:
    """Return the seconds in which each of *subscribers* is sent one frame."""
    return max(budget.least_interval_s, subscribers / min(budget.messages_per_s, MOST_SHARDS * posts_per_s))


def ping_s(subscribers: int, budget: Budget) -> int:
    """Return the seconds between two pings of each of *subscribers*; each ping is answered by a pong.

    It is PING_S if they are few. Otherwise, pings and pongs take PINGS_SHARE of the budget, or more where the gateway's
    idle timeout requires it.
    """
    fair_s = 2 * subscribers / (PINGS_SHARE * budget.messages_per_s)
    return round(min(max(fair_s, PING_S), LONGEST_PING_S))


def _turn(waiting: Sequence[tuple[int, int]], most: float) -> Iterator[tuple[int, int]]:
    """Yield the first of *waiting*, up to *most* messages in total, but at least one bucket."""
    messages = 0
    for bucket, size in waiting:
        messages += size
        if messages > most and messages > size:
            return
        yield bucket, size


def _spread(chosen: Sequence[tuple[int, int]], count: int) -> list[list[tuple[int, int]]]:
    """Spread *chosen* over *count* shards, the largest first to the least loaded; each shard keeps the given order."""
    loads = [(0, number) for number in range(count)]  # already a heap
    owner: dict[int, int] = {}
    for bucket, size in sorted(chosen, key=lambda each: -each[1]):
        load, number = loads[0]
        heapq.heapreplace(loads, (load + size, number))
        owner[bucket] = number
    shards: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for bucket, size in chosen:
        shards[owner[bucket]].append((bucket, size))
    return shards


@dataclass(slots=True)
class TurnPlanner:
    """Plans turn after turn, and keeps which buckets are under way and when the budget has paid for the last turn.

    Times are in seconds, of any monotonic clock.
    """

    budget: Budget
    _under_way: dict[int, tuple[int, float]] = field(default_factory=dict)  # bucket: version, time limit
    next_at: float = 0.0  # earliest start of the next turn

    def turn(self, version: int, audience: Audience, now: float) -> Plan:
        """Plan the shards to invoke now for *version*; if there are none, the interval says when to call again.

        The interval is infinite if no bucket lacks *version*, or only those that are under way.
        """
        waiting = [bucket for bucket in audience.lagging(version) if not self._is_under_way(bucket, audience, now)]
        if not waiting:
            return Plan((), math.inf)
        if now < self.next_at:  # the next turn carries this change and all others until then
            return Plan((), self.next_at - now)
        sizes = [(bucket, audience.sizes[bucket]) for bucket in waiting]
        todo = plan(sizes, self.budget, audience.posts_per_s, version)
        for shard in todo.shards:
            for bucket in shard.buckets:
                self._under_way[bucket] = version, now + shard.within_s + GRACE_S
        self.next_at = now + todo.interval_s
        return todo

    def forget_what_is_under_way(self) -> None:
        """Make every lagging bucket due, even if a shard is under way to it: what the shard delivers is out of date."""
        self._under_way.clear()

    def call_off(self, shards: Iterable[Shard]) -> None:
        """Make the buckets of *shards* due again, because the invocations failed."""
        for shard in shards:
            for bucket in shard.buckets:
                self._under_way.pop(bucket, None)

    def _is_under_way(self, bucket: int, audience: Audience, now: float) -> bool:
        """A shard may be lost or stop midway: after its time limit, the bucket is due again."""
        promised, until = self._under_way.get(bucket, (0, 0.0))
        return audience.delivered.get(bucket, 0) < promised and now < until


def learned(posts_per_s: float, achieved: float, *, kept_pace: bool) -> float:
    """Return the new estimate of the posts per second of one shard, after a shard has *achieved* this many.

    A shard that fell behind its pace shows its capacity. One that kept its pace shows only that the capacity is at
    least this high, so the estimate grows a little; otherwise, one bad measurement would mean small shards for ever.
    A single measurement moves the estimate by a quarter at most.
    """
    smoothed = posts_per_s + MEASUREMENT_WEIGHT * (achieved - posts_per_s)
    moved = max(achieved, posts_per_s * GROWTH) if kept_pace else smoothed
    bounded = min(max(moved, posts_per_s * (1 - MEASUREMENT_WEIGHT)), posts_per_s * (1 + MEASUREMENT_WEIGHT))
    return min(max(bounded, LEAST_POSTS_PER_S), MOST_POSTS_PER_S)
