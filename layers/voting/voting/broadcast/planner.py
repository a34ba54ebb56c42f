"""The plan of a fan-out: who is sent the newest results next, by how many shards at once, and how fast.

No clock, no store, no gateway in here: the worker and the simulation of bench/ decide by this very code.

The audience is served in turns. A turn takes the buckets that were served longest ago, as many as the budget serves in
TURN_S, and the next turn begins when the budget has paid for it. So a small audience gets everything at once, every
least interval; a large one gets it in the course of some turns, each with the figures that are newest by then; and
nobody waits longer than the others, however large the audience and however often a shard is lost.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voting.results.results import PING_S

TURN_S = 10.0  # posting that one turn plans for; a shard has 30 s (template.yaml), which leaves room for trouble
MOST_SHARDS = 16  # as many as template.yaml reserves environments
SHARD_S = 1.0  # posting that is worth an invocation: more and smaller shards would cost cold starts and gain little
PATIENCE_S = 4.0  # that a shard has beyond twice its time: the 3 s of a connection that hangs, and some
LONGEST_PATIENCE_S = 20.0  # a shard must end well within its 30 s
GRACE_S = 1.0  # to start, and to end; then what a shard has not delivered is set off again
HEAD_START_S = 0.5  # so much of its pace a shard may send at once: gateways take bursts (API Gateway 5,000)

PRIOR_POSTS_PER_S = 4000.0  # of one shard, before any was measured and after a long silence
LEAST_POSTS_PER_S, MOST_POSTS_PER_S = 100.0, 20_000.0
SILENCE_S = 600.0  # after which a measurement says nothing any more: other machines, another day
MEASUREMENT_WEIGHT = 0.25  # of a new measurement beside all earlier ones
GROWTH = 1.1  # of the estimate, where a shard kept its pace and could have done more

PINGS_SHARE = 0.05  # of the budget of messages, for pings and pongs together
LONGEST_PING_S = 540  # the gateway closes a connection that is idle for ten minutes


@dataclass(frozen=True, slots=True)
class Budget:
    """What the operator grants: API Gateway bills each message, and shares its throttle between them and the votes."""

    messages_per_s: float
    least_interval_s: float


@dataclass(frozen=True, slots=True)
class Audience:
    """The registry as it is now: by bucket how many subscribers, and the version that all of them were sent."""

    sizes: Sequence[int]
    delivered: Mapping[int, int]  # without the buckets that are owed their version once more
    posts_per_s: float = PRIOR_POSTS_PER_S  # of one shard, as measured
    served: Mapping[int, int] = field(default_factory=dict)  # by bucket, when it was; any clock that only moves on

    def lagging(self, version: int) -> list[int]:
        """The buckets with subscribers that wait for *version*, those first that were served longest ago.

        Versions alone cannot tell: a bucket that is owed has none, and all that are owed would wait equally long,
        however often those with the lowest numbers were served before the others.
        """
        behind = [b for b, size in enumerate(self.sizes) if size and self.delivered.get(b, 0) < version]
        return sorted(behind, key=lambda bucket: (self.served.get(bucket, 0), self.delivered.get(bucket, 0)))


@dataclass(frozen=True, slots=True)
class Shard:
    """What one invocation of ws_broadcast is to do."""

    buckets: tuple[int, ...]  # in the order in which they are due
    subscribers: int
    pace: float  # messages a second that it may send: its share of the budget
    within_s: float  # after so long it stops, since others are set off in its place soon after
    posts_per_s: float = PRIOR_POSTS_PER_S  # the estimate that the plan was made with
    version: int = 0  # what it was set off for; a bucket that has it already was served by another attempt
    at: int = 0  # when it was set off, in ms since the epoch; what tells one attempt from another

    def as_event(self) -> dict[str, Any]:
        """What the function is invoked with."""
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
        """Read what `as_event` wrote; an event that names buckets alone knows no hurry and no budget."""
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
        """Whether a shard that took so long for *messages* was held up by its pace and nothing else."""
        paced_s = messages / self.pace - HEAD_START_S
        return paced_s > 0 and took_s <= 1.1 * paced_s


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards to set off now, and the time until the budget has paid for them: the next turn's earliest start."""

    shards: tuple[Shard, ...]
    interval_s: float


def plan(
    waiting: Sequence[tuple[int, int]], budget: Budget, posts_per_s: float = PRIOR_POSTS_PER_S, version: int = 0
) -> Plan:
    """Plan a turn over *waiting*: buckets that are due for *version* with their sizes, the longest waiting first.

    Every bucket of the turn is in exactly one shard. The paces of all shards sum up to the budget.
    """
    per_s = min(budget.messages_per_s, MOST_SHARDS * posts_per_s)
    chosen = list(_turn(waiting, TURN_S * per_s))
    messages = sum(size for _, size in chosen)
    if not messages:
        return Plan((), budget.least_interval_s)
    # A bucket that is larger than a turn is not done in one: its shard stops after LONGEST_PATIENCE_S, midway.
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
    """The time in which each of *subscribers* is sent one frame: how often anybody hears of changes."""
    return max(budget.least_interval_s, subscribers / min(budget.messages_per_s, MOST_SHARDS * posts_per_s))


def ping_s(subscribers: int, budget: Budget) -> int:
    """How many seconds each of *subscribers* should let pass between two pings, each of which is answered by a pong.

    PING_S where they are few. Beyond that pings and pongs take PINGS_SHARE of the budget, as far as the idle time-out
    of the gateway lets them.
    """
    fair_s = 2 * subscribers / (PINGS_SHARE * budget.messages_per_s)
    return round(min(max(fair_s, PING_S), LONGEST_PING_S))


def _turn(waiting: Sequence[tuple[int, int]], most: float) -> Iterator[tuple[int, int]]:
    """The first of *waiting*, *most* messages in all; at least one bucket."""
    messages = 0
    for bucket, size in waiting:
        messages += size
        if messages > most and messages > size:
            return
        yield bucket, size


def _spread(chosen: Sequence[tuple[int, int]], count: int) -> list[list[tuple[int, int]]]:
    """Spread *chosen* over *count* shards, the largest first to whoever has least; each keeps the order given."""
    loads = [(0, number) for number in range(count)]  # a heap as it is
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
    """The worker's side of all turns: what is under way, and when the budget has paid for the last turn.

    Its times are those of any clock that only moves on, in seconds.
    """

    budget: Budget
    _under_way: dict[int, tuple[int, float]] = field(default_factory=dict)  # bucket: version promised, until when
    next_at: float = 0.0  # before which no turn begins

    def turn(self, version: int, audience: Audience, now: float) -> Plan:
        """What to set off now, so that everybody gets *version*; without shards, when to come back for it.

        The interval is infinite where nobody waits for anything, or only for shards that are under way.
        """
        waiting = [bucket for bucket in audience.lagging(version) if not self._is_under_way(bucket, audience, now)]
        if not waiting:
            return Plan((), math.inf)
        if now < self.next_at:  # the next turn carries this change, and those that come until then
            return Plan((), self.next_at - now)
        sizes = [(bucket, audience.sizes[bucket]) for bucket in waiting]
        todo = plan(sizes, self.budget, audience.posts_per_s, version)
        for shard in todo.shards:
            for bucket in shard.buckets:
                self._under_way[bucket] = version, now + shard.within_s + GRACE_S
        self.next_at = now + todo.interval_s
        return todo

    def forget_what_is_under_way(self) -> None:
        """Let every bucket be due that lags, whatever is on its way to it: what it brings is out of date."""
        self._under_way.clear()

    def call_off(self, shards: Iterable[Shard]) -> None:
        """Take back that *shards* are under way: they could not be set off."""
        for shard in shards:
            for bucket in shard.buckets:
                self._under_way.pop(bucket, None)

    def _is_under_way(self, bucket: int, audience: Audience, now: float) -> bool:
        """A shard that was lost, or stopped midway, delivers nothing: after its time the bucket is due again."""
        promised, until = self._under_way.get(bucket, (0, 0.0))
        return audience.delivered.get(bucket, 0) < promised and now < until


def learned(posts_per_s: float, achieved: float, *, kept_pace: bool) -> float:
    """The estimate of what one shard posts a second, after one more has told what it *achieved*.

    A shard that fell behind its pace shows what a shard can do. One that kept it shows only that it could do that much:
    the estimate then grows a little, so that one bad day does not leave us with many small shards for ever. A single
    measurement moves it by a quarter at most.
    """
    smoothed = posts_per_s + MEASUREMENT_WEIGHT * (achieved - posts_per_s)
    moved = max(achieved, posts_per_s * GROWTH) if kept_pace else smoothed
    bounded = min(max(moved, posts_per_s * (1 - MEASUREMENT_WEIGHT)), posts_per_s * (1 + MEASUREMENT_WEIGHT))
    return min(max(bounded, LEAST_POSTS_PER_S), MOST_POSTS_PER_S)
