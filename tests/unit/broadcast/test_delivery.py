"""Deliveries against a registry without a store and a clock that stands still until it is told to move."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.broadcast.delivery import MEASURED_FROM, READ_AHEAD, REFRESH_S, Delivery, NothingToSend, measured
from voting.broadcast.planner import Shard
from voting.broadcast.subscribers import Bucket
from voting.results.results import Results


class Registry:
    """Buckets of ids, and what a delivery recorded."""

    def __init__(self, *sizes: int) -> None:
        self.ids = [[f"{bucket}:{n:06}" for n in range(size)] for bucket, size in enumerate(sizes)]
        self.delivered: dict[int, int] = {}
        self.halfway: dict[int, tuple[str, int]] = {}
        self.reads: list[list[int]] = []
        self.begun: dict[int, int] = {}

    def read(self, numbers: Sequence[int], at: int) -> list[Bucket]:
        self.reads.append(list(numbers))
        ours = [number for number in numbers if not at or self.begun.get(number, 0) < at]
        self.begun |= dict.fromkeys(ours, at)
        return [self._bucket(number) for number in ours]

    def _bucket(self, number: int) -> Bucket:
        after, least = self.halfway.get(number, ("", None))
        before = str(self.delivered.get(number, ""))
        return Bucket(number, [id_ for id_ in self.ids[number] if id_ > after], before, least)

    def mark_delivered(self, versions: Mapping[int, int], before: Mapping[int, str]) -> None:
        assert versions.keys() == before.keys()
        self.delivered |= versions
        for number in versions:
            self.halfway.pop(number, None)

    def mark_halfway(self, bucket: Bucket, after: str, least: int) -> None:
        self.halfway[bucket.number] = after, least


class Scene:
    """A shard of all buckets of a registry, a clock and the newest version, to be moved by the test."""

    def __init__(self, *sizes: int, version: int = 5, registry: Registry | None = None, pace: float = 4000.0) -> None:
        self.registry = registry or Registry(*sizes)
        self.now = 0.0
        self.version: int | None = version
        self.shard = Shard(tuple(range(len(self.registry.ids))), sum(map(len, self.registry.ids)), pace, 10.0)
        self.delivery = Delivery(self.shard, self.registry, self.newest, lambda: self.now)

    def newest(self) -> Results | None:
        return None if self.version is None else Results(self.version, ())

    def take(self, count: int) -> list[tuple[str, bytes]]:
        return [post for _ in range(count) if (post := self.delivery.next())]

    def serve(self, count: int) -> list[bytes]:
        """Hand out and settle *count*; return their frames."""
        posts = self.take(count)
        for id_, _ in posts:
            self.delivery.settle(id_)
        return [frame for _, frame in posts]


def test_everybody_is_handed_out_once_and_every_bucket_counts_as_delivered() -> None:
    scene = Scene(3, 0, 2)
    taken = [id_ for id_, _ in scene.take(10)]
    assert taken == [id_ for bucket in scene.registry.ids for id_ in bucket]
    for id_ in taken:
        scene.delivery.settle(id_)
    assert scene.delivery.finish() == []
    assert scene.registry.delivered == {0: 5, 1: 5, 2: 5}


def test_nothing_to_send_is_said() -> None:
    with pytest.raises(NothingToSend):
        Delivery(Shard((0,), 1, 4000.0, 10.0), Registry(1), lambda: None)


def test_a_delivery_that_is_overtaken_goes_on_with_the_newest_results() -> None:
    scene = Scene(4)
    early = scene.serve(2)
    scene.version = 6
    scene.now = REFRESH_S
    late = scene.serve(2)
    assert early == [Results(5, ()).frame()] * 2
    assert late == [Results(6, ()).frame()] * 2
    scene.delivery.finish()
    assert scene.registry.delivered == {0: 5}  # half of them still wait for version 6


def test_a_bucket_that_is_begun_after_a_change_counts_with_the_newer_version() -> None:
    scene = Scene(READ_AHEAD, READ_AHEAD)
    scene.serve(READ_AHEAD - 1)
    scene.version, scene.now = 6, REFRESH_S
    scene.serve(READ_AHEAD + 1)
    scene.delivery.finish()
    assert scene.registry.reads == [[0], [1]]
    assert scene.registry.delivered == {0: 5, 1: 6}


def test_results_never_go_back_and_may_get_lost() -> None:
    scene = Scene(4)
    for version in (4, None):
        scene.version = version
        scene.now += REFRESH_S
        assert scene.serve(1) == [Results(5, ()).frame()]


def test_what_is_done_is_recorded_on_the_way() -> None:
    scene = Scene(2, 2)
    scene.serve(2)
    scene.now = REFRESH_S
    scene.take(1)
    assert scene.registry.delivered == {0: 5}


def test_a_bucket_with_somebody_open_is_not_delivered() -> None:
    scene = Scene(2, 1)
    (first, *rest) = scene.take(3)
    for id_, _ in rest:
        scene.delivery.settle(id_)
    assert scene.delivery.finish() == [0]
    assert scene.registry.delivered == {1: 5}
    assert scene.registry.halfway == {}
    assert first[0] == "0:000000"


def test_the_next_attempt_begins_after_the_last_one_that_is_settled() -> None:
    scene = Scene(10)
    scene.serve(3)
    (id_, _), *_ = scene.take(3)[1:]  # of the third to sixth, the fifth is answered and the fourth is not
    scene.delivery.settle(id_)
    assert scene.delivery.finish() == [0]
    assert scene.registry.halfway == {0: ("0:000002", 5)}
    again = Scene(version=7, registry=scene.registry)
    assert len(again.serve(100)) == 7
    again.delivery.finish()
    assert scene.registry.delivered == {0: 5}  # the first three have no more
    assert scene.registry.halfway == {}


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    st.integers(1, 60),
    st.randoms(use_true_random=False),
)
def test_however_short_the_deadline_everybody_is_served_after_some_attempts(sizes, most, random) -> None:
    registry = Registry(*sizes)
    served: list[str] = []
    for attempt in range(2 * sum(sizes) + 2):
        if len(registry.delivered) == len(sizes):
            break
        delivery = Delivery(
            Shard(tuple(b for b in range(len(sizes)) if b not in registry.delivered), sum(sizes), 4000.0, 10.0),
            registry,
            lambda version=attempt + 1: Results(version, ()),
        )
        posts = [post for _ in range(most) if (post := delivery.next())]
        settled = posts[:1] + [post for post in posts[1:] if random.random() < 0.7]
        for id_, _ in settled:
            delivery.settle(id_)
        served += [id_ for id_, _ in settled]
        delivery.finish()
    assert set(served) == {id_ for bucket in registry.ids for id_ in bucket}
    assert len(registry.delivered) == len(sizes)


def test_an_invoke_that_comes_twice_posts_once() -> None:
    scene = Scene(3, 2)
    scene.serve(5)
    scene.delivery.finish()
    twice = Scene(registry=scene.registry)
    assert twice.take(1) == []
    assert twice.delivery.finish() == []


def test_what_another_copy_of_an_invoke_has_begun_is_left_to_it() -> None:
    registry = Registry(READ_AHEAD, READ_AHEAD)
    shard = Shard((0, 1), 2 * READ_AHEAD, 4000.0, 10.0, version=5, at=17)
    first, second, later = (
        Delivery(replace(shard, at=at), registry, lambda: Results(5, ())) for at in (shard.at, shard.at, shard.at + 1)
    )
    assert first.next() == ("0:000000", Results(5, ()).frame())
    assert second.next() == ("1:000000", Results(5, ()).frame())
    assert later.next() == ("0:000000", Results(5, ()).frame())


@pytest.mark.parametrize(("delivered", "is_served"), [(4, False), (5, True), (6, True), (-1, False)])
def test_a_late_invoke_leaves_alone_who_has_what_it_was_set_off_for(delivered: int, is_served: bool) -> None:
    registry = Registry(2)
    registry.delivered = {0: delivered}
    shard = Shard((0,), 2, 4000.0, 10.0, version=5)
    assert (Delivery(shard, registry, lambda: Results(9, ())).next() is None) is is_served


# ---------------------------------------------------------------- What it tells of a shard


def shard(pace: float) -> Shard:
    return Shard((0,), 10_000, pace, 20.0, posts_per_s=4000.0)


def test_a_small_delivery_measures_nothing() -> None:
    assert measured(shard(1e9), MEASURED_FROM - 1, 0.1) is None
    assert measured(shard(1e9), 10_000, 0.0) is None


def test_who_falls_behind_moves_the_estimate_to_what_was_achieved() -> None:
    assert measured(shard(1e9), 10_000, 10.0) == pytest.approx(4000 * 0.75 + 962 * 0.25, rel=0.01)
    assert measured(shard(1e9), 10_000, 0.5) == 5000.0


def test_who_keeps_the_pace_shows_only_that_it_could() -> None:
    assert measured(shard(1000.0), 10_000, 9.5) == pytest.approx(4400)


def test_the_time_of_a_delivery_ends_with_the_last_connection_handed_out() -> None:
    scene = Scene(2)
    scene.now = 0.2
    taken = scene.take(2)
    scene.now = 3.0
    for id_, _ in taken:
        scene.delivery.settle(id_)
    assert scene.delivery.took_s == 0.2
