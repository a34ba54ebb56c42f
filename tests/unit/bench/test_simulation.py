"""The simulated world, by itself and with the product's planner in it."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.benchmarks.fanout import CASES, SMOKE
from bench.simulation.conditions import Conditions, Measurements
from bench.simulation.gateway import Gateway
from bench.simulation.registry import Registry
from bench.simulation.worker import Planned, Unplanned
from bench.simulation.world import World
from voting.broadcast.planner import Budget
from voting.broadcast.subscribers import BUCKETS

BUDGET = Budget(4000, 0.05)
CALM = {"hanging_share": 0.0, "twice_share": 0.0, "lost_share": 0.0, "cold_start_s": 0.0, "votes_per_s": 0.0}


def calm(subscribers: int, **changes: float) -> Conditions:
    return Conditions(subscribers, **(CALM | changes))


# ---------------------------------------------------------------- The world by itself


def test_a_throttle_lets_through_its_burst_and_then_its_rate() -> None:
    gateway = Gateway(100.0, 50.0, 0.0, random.Random(1))
    assert sum(gateway.admits(0.0) for _ in range(200)) == 50
    assert sum(gateway.admits(1.0) for _ in range(200)) in {49, 50}  # a burst at most
    assert sum(gateway.admits(1.0 + n / 1000) for n in range(1, 1001)) in {99, 100, 101}


def test_votes_take_their_part_of_the_throttle() -> None:
    gateway = Gateway(1000.0, 100.0, 600.0, random.Random(1))
    let_through = sum(gateway.admits(n / 1000) for n in range(10_000))
    assert gateway.votes == pytest.approx(6000, rel=0.1)
    assert let_through + gateway.votes - gateway.votes_refused == pytest.approx(10_000, rel=0.02)
    assert gateway.votes_refused > 1000


def test_each_subscriber_is_in_exactly_one_bucket() -> None:
    members = [each for bucket in Registry(1000).buckets for each in bucket]
    assert sorted(members, key=int) == [str(number) for number in range(1000)]
    assert len(Registry(1000).buckets) == BUCKETS


def test_the_busiest_seconds_are_found_wherever_they_are() -> None:
    found = Measurements(by_second={0: 10, 5: 40, 6: 60})
    assert found.busiest(1) == 60
    assert found.busiest(2) == 50
    assert found.busiest(100) == pytest.approx(1.1)


def test_without_a_frame_the_age_is_infinite() -> None:
    assert Measurements().age_s(0.99) == math.inf
    assert Measurements(ages_s=[3.0, 1.0, 2.0]).age_s(0.99) == 3.0


def test_the_same_seed_finds_the_same() -> None:
    first, second = (World(Conditions(500, seed=3), Planned(BUDGET)).run(3) for _ in range(2))
    assert (first.posts, first.oldest_s, first.ages_s) == (second.posts, second.oldest_s, second.ages_s)


def test_a_weighted_world_measures_about_the_same() -> None:
    whole, grouped = (World(calm(8000, weight=weight), Planned(BUDGET)).run(20) for weight in (1, 8))
    assert grouped.posts == pytest.approx(whole.posts, rel=0.05)
    assert grouped.oldest_s == pytest.approx(whole.oldest_s, rel=0.2)


# ---------------------------------------------------------------- With the planner in it


@settings(max_examples=15)
@given(st.integers(100, 60_000), st.integers(500, 8000), st.sampled_from([500.0, 2000.0, 10_000.0]), st.integers(0, 9))
def test_the_budget_holds_for_any_audience_and_any_speed(
    subscribers: int, budget: int, posts_per_s: float, seed: int
) -> None:
    conditions = calm(subscribers, weight=max(1, subscribers // 1000), posts_per_s=posts_per_s, seed=seed)
    found = World(conditions, Planned(Budget(budget, 0.05))).run(30)
    # The head start of half a second, and a turn that begins a little late, which is granted one more.
    assert found.busiest(10) <= budget * 1.15 + subscribers / 100


def test_a_planned_audience_of_any_size_is_served_in_rounds() -> None:
    for subscribers, weight in ((100, 1), (20_000, 20)):
        found = World(calm(subscribers, weight=weight), Planned(BUDGET)).run(40)
        assert found.oldest_s <= 1.5 + 1.3 * subscribers / 4000


def test_votes_pass_during_a_planned_fan_out_and_not_during_an_unplanned_one() -> None:
    conditions = Conditions(20_000, 20)
    planned = World(conditions, Planned(BUDGET)).run(20)
    unplanned = World(conditions, Unplanned(0.05, 16), is_resumable=False).run(20)
    assert planned.votes_refused == 0
    assert unplanned.votes_refused_share > 0.1


def test_every_subscriber_is_served_although_functions_are_cut_short_and_shards_are_lost() -> None:
    conditions = Conditions(50_000, 100, posts_per_s=1000, time_limit_s=2.0, lost_share=0.1, seed=4)
    found = World(conditions, Planned(BUDGET)).run(200)
    assert found.oldest_s < 150


def test_slow_shards_are_noticed_and_become_more() -> None:
    world = World(calm(20_000, weight=4, posts_per_s=1000.0), Planned(BUDGET))
    found = world.run(60)
    assert found.estimates[0] == 4000
    assert 700 <= found.estimates[-1] <= 1500
    assert found.posts / 60 >= 0.85 * 4000


def test_an_estimate_does_not_swing() -> None:
    found = World(calm(20_000, weight=4, posts_per_s=1000.0), Planned(BUDGET)).run(120)
    late = found.estimates[len(found.estimates) // 2 :]
    assert max(late) <= 2 * min(late)


def test_every_measured_size_is_a_multiple_of_its_weight() -> None:
    assert all(case.subscribers % case.weight == 0 for case in (*CASES, *SMOKE))
