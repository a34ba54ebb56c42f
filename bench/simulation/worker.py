"""Workers that decide what to broadcast: the product's planner, and one without a plan."""

import math
from collections.abc import Sequence
from typing import Protocol

from voting.broadcast.planner import Audience, Budget, Shard, TurnPlanner
from voting.broadcast.subscribers import BUCKETS


class Worker(Protocol):
    """Decides which shards to start."""

    def turn(self, version: int, audience: Audience, now: float) -> Sequence[Shard]: ...


class Planned:
    """The product's planner."""

    def __init__(self, budget: Budget) -> None:
        self._planner = TurnPlanner(budget)

    def turn(self, version: int, audience: Audience, now: float) -> Sequence[Shard]:
        return self._planner.turn(version, audience, now).shards


class Unplanned:
    """Sends every change to every subscriber, by a fixed number of shards, at most once per least interval."""

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
