"""Who is served while strangers ping, all subscribers reconnect and everything is owed to everybody.

Time is simulated, and so are Lambda and API Gateway: a shard posts at its pace, and one in twenty is lost. The registry
on a real Redis, the planner, the deliveries and the answers to frames are the product's own.

Covers feed.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from redis import Redis

from voting.broadcast.delivery import Delivery
from voting.broadcast.feed import Limits
from voting.broadcast.planner import (
    GRACE_S,
    HEAD_START_S,
    LONGEST_PATIENCE_S,
    Audience,
    Budget,
    Shard,
    TurnPlanner,
    round_s,
)
from voting.broadcast.subscribers import BUCKETS, Subscribers, bucket_of
from voting.broadcast.websocket_api import answer
from voting.clients import Clients
from voting.results.results import Results
from voting.results.snapshot import Snapshots
from voting.tally import Tally

SUBSCRIBERS = 640
BUDGET = Budget(40, 0.05)  # messages a second: a round takes 16 s
STEP_S = 0.1
CHANGES_EVERY_S = 0.2
LOST_SHARE = 0.05
PING, SUBSCRIBE = '{"action": "ping"}', '{"action": "subscribe"}'


@dataclass
class World:
    """Subscribers, and what becomes of them."""

    redis: Redis
    clients: Clients
    seed: int = 7
    now: float = 0.0
    posts: Counter[int] = field(default_factory=Counter)  # of broadcasts, by second
    answers: int = 0  # to frames
    sent_at: dict[str, float] = field(default_factory=dict)
    longest_s: float = 0.0  # between two frames to one connection
    served: set[int] = field(default_factory=set)  # buckets

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.registry = Subscribers(self.redis)
        self.planner = TurnPlanner(BUDGET)
        self.snapshots = Snapshots(self.redis)
        self.version = 0
        self.running: list[Running] = []
        self.change()
        for number in range(SUBSCRIBERS):
            self.registry.add(f"c{number}=")
            self.sent_at[f"c{number}="] = 0.0

    def change(self) -> None:
        self.version += 1
        self.confirm()

    def confirm(self) -> None:
        self.snapshots.write(Tally(self.version, {"a": self.version}))

    def newest(self) -> Results | None:
        snapshot = self.snapshots.read()
        return None if snapshot is None else snapshot.results(self.clients.settings.question)

    def join(self, connection_id: str) -> None:
        self.ask(connection_id, SUBSCRIBE)
        self.sent_at[connection_id] = self.now

    def leave(self, connection_id: str) -> None:
        self.registry.remove([connection_id])
        del self.sent_at[connection_id]

    def ask(self, connection_id: str, frame: str) -> None:
        self.answers += len(answer(frame, connection_id, self.clients))

    def get(self, connection_id: str) -> None:
        """A broadcast has sent *connection_id* a frame."""
        self.posts[int(self.now)] += 1
        if connection_id in self.sent_at:
            self.longest_s = max(self.longest_s, self.now - self.sent_at[connection_id])
            self.sent_at[connection_id] = self.now
            self.served.add(bucket_of(connection_id))

    def owe_all(self) -> None:
        """As the worker does when the figures become stale, and when they are fresh again."""
        self.registry.owe_all()
        self.planner.forget_what_is_under_way()

    def run(self, seconds: float, *happenings: tuple[float, Callable[["World"], None]], changes: bool = True) -> None:
        """Let so many *seconds* go by, with *happenings*: how often, and what."""
        todo = [*happenings, (CHANGES_EVERY_S, World.change if changes else World.confirm)]
        due = [self.now + every_s for every_s, _ in todo]
        end = self.now + seconds
        while self.now < end:
            self.now += STEP_S
            for number, (every_s, happen) in enumerate(todo):
                while due[number] <= self.now:
                    due[number] += every_s
                    happen(self)
            self._plan()
            self.running = [running for running in self.running if running.goes_on()]
        self.longest_s = max(self.longest_s, *(self.now - at for at in self.sent_at.values()))

    def busiest(self, seconds: int) -> float:
        """The most posts a second of broadcasts, on the average of so many seconds."""
        last = max(self.posts, default=0)
        return max(
            sum(self.posts[second] for second in range(first, first + seconds)) / seconds for first in range(last + 1)
        )

    def _plan(self) -> None:
        state = self.registry.state()
        audience = Audience(state.sizes, state.delivered, served=state.served)
        for shard in self.planner.turn(self.version, audience, self.now).shards:
            self.running.append(Running(self, replace(shard, at=int(self.now * 1000))))


class Running:
    """One shard, on a gateway that answers at once."""

    def __init__(self, world: World, shard: Shard) -> None:
        self._world = world
        self._began_at = world.now
        self._limits = Limits(shard.pace, HEAD_START_S, shard.within_s)
        self._is_lost_after = world.rng.randrange(200) if world.rng.random() < LOST_SHARE else None
        self._delivery = Delivery(shard, world.registry, world.newest, lambda: world.now)
        self._begun = 0

    def goes_on(self) -> bool:
        """Post what the pace allows; whether there is more to do."""
        elapsed_s = self._world.now - self._began_at
        while self._begun < self._limits.allowed(elapsed_s):
            if self._begun == self._is_lost_after:
                return False
            fed = self._delivery.next()
            if fed is None:
                self._delivery.finish()
                return False
            self._begun += 1
            self._world.get(fed[0])
            self._delivery.settle(fed[0])
        if elapsed_s >= self._limits.within_s:
            self._delivery.finish()
            return False
        return True


@pytest.fixture
def world(redis: Redis, clients: Clients) -> World:
    return World(redis, clients)


def stranger_pings(world: World) -> None:
    """One that the registry does not know, and will not know the next time."""
    world.ask("stranger=", PING)
    world.registry.remove(["stranger="])


def all_reconnect(world: World) -> None:
    for connection_id in list(world.sent_at):
        world.leave(connection_id)
        world.join(f"{connection_id.partition('.')[0]}.{world.now:.1f}=")


def some_reconnect(world: World) -> None:
    """A twentieth, which stays away from no bucket for long."""
    for connection_id in world.rng.sample(sorted(world.sent_at), SUBSCRIBERS // 20):
        world.leave(connection_id)
        world.join(f"{connection_id.partition('.')[0]}.{world.now:.1f}=")


STORMS: dict[str, list[tuple[float, Callable[[World], None]]]] = {
    "nothing but changes": [],
    "pings of strangers": [(0.2, stranger_pings)],
    "debts everywhere, again and again": [(1.5, World.owe_all)],
    "debts faster than the budget pays": [(0.1, World.owe_all)],
    "subscribers come and go": [(1.0, some_reconnect)],
    "everybody reconnects": [(25.0, all_reconnect)],
    "all of it": [(0.2, stranger_pings), (1.5, World.owe_all), (2.0, some_reconnect)],
}


@pytest.mark.parametrize("storm", STORMS)
def test_every_bucket_is_served_in_its_turn_and_within_the_budget(world: World, storm: str) -> None:
    world.run(60, *STORMS[storm])
    assert world.served == set(range(BUCKETS))
    # A round, the one that was under way, and a shard that was lost.
    patience_s = 2 * round_s(SUBSCRIBERS, BUDGET) + LONGEST_PATIENCE_S + GRACE_S
    assert world.longest_s <= patience_s
    assert world.busiest(10) <= 1.15 * BUDGET.messages_per_s


@pytest.mark.parametrize("storm", [stranger_pings, some_reconnect])
def test_a_storm_without_news_sends_nobody_else_a_frame(world: World, storm: Callable[[World], None]) -> None:
    world.run(40, changes=False)
    world.posts.clear()
    world.answers = 0
    world.run(10, (0.5, storm), changes=False)
    assert world.posts.total() == 0
    assert 0 < world.answers <= 2 * SUBSCRIBERS * 10


def test_debts_everywhere_are_paid_once_and_then_there_is_peace(world: World) -> None:
    world.run(40, changes=False)
    world.posts.clear()
    world.owe_all()
    world.run(60, changes=False)
    assert SUBSCRIBERS <= world.posts.total() <= SUBSCRIBERS * 1.3  # a lost shard's part comes twice
    assert len(world.registry.state().delivered) == BUCKETS
