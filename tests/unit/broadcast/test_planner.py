import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.broadcast import planner
from voting.broadcast.planner import (
    LONGEST_PING_S,
    Audience,
    Budget,
    Shard,
    TurnPlanner,
    learned,
    ping_s,
    plan,
    round_s,
)
from voting.broadcast.subscribers import BUCKETS

sizes = st.lists(st.integers(0, 20_000), min_size=BUCKETS, max_size=BUCKETS)
audiences = sizes.map(lambda counts: [(bucket, size) for bucket, size in enumerate(counts) if size])
budgets = st.builds(Budget, st.floats(1, 200_000), st.floats(0.05, 60))
speeds = st.floats(planner.LEAST_POSTS_PER_S, planner.MOST_POSTS_PER_S)
BUDGET = Budget(4000, 0.05)


def evenly(subscribers: int) -> list[int]:
    share, rest = divmod(subscribers, BUCKETS)
    return [share + (bucket < rest) for bucket in range(BUCKETS)]


def pairs(subscribers: int) -> list[tuple[int, int]]:
    return [(bucket, size) for bucket, size in enumerate(evenly(subscribers)) if size]


# ---------------------------------------------------------------- One turn


@given(audiences, budgets, speeds)
def test_a_turn_takes_the_longest_waiting_and_each_of_them_once(waiting, budget: Budget, speed: float) -> None:
    shards = plan(waiting, budget, speed).shards
    taken = sorted(bucket for shard in shards for bucket in shard.buckets)
    assert taken == sorted(bucket for bucket, _ in waiting[: len(taken)])
    assert bool(taken) == bool(waiting)
    assert all(shard.buckets for shard in shards)


@given(audiences, budgets, speeds)
def test_planned_messages_stay_within_the_budget(waiting, budget: Budget, speed: float) -> None:
    todo = plan(waiting, budget, speed)
    assert todo.interval_s >= budget.least_interval_s
    assert sum(shard.pace for shard in todo.shards) <= budget.messages_per_s * (1 + 1e-9)
    messages = sum(shard.subscribers for shard in todo.shards)
    is_larger_than_a_turn = sum(len(shard.buckets) for shard in todo.shards) == 1
    assert is_larger_than_a_turn or messages <= budget.messages_per_s * todo.interval_s * (1 + 1e-9)


@given(audiences, budgets, speeds)
def test_shards_differ_by_one_bucket_at_most(waiting, budget: Budget, speed: float) -> None:
    shards = plan(waiting, budget, speed).shards
    loads = [shard.subscribers for shard in shards]
    assert len(shards) <= planner.MOST_SHARDS
    if loads:
        assert max(loads) - min(loads) <= max(size for _, size in waiting)
        assert sum(loads) == sum(dict(waiting)[bucket] for shard in shards for bucket in shard.buckets)


@given(audiences, budgets, speeds)
def test_a_shard_stops_before_its_function_is_stopped(waiting, budget: Budget, speed: float) -> None:
    assert all(3 < shard.within_s <= planner.LONGEST_PATIENCE_S for shard in plan(waiting, budget, speed).shards)


def test_nobody_there_means_no_shard() -> None:
    assert plan([], BUDGET).shards == ()


@pytest.mark.parametrize(
    ("subscribers", "seconds"), [(0, 20), (1, 20), (300, 20), (2000, 20), (3000, 30), (30_000, 300), (54_000, 540)]
)
def test_pings_and_pongs_take_a_twentieth_of_the_budget_at_most(subscribers: int, seconds: int) -> None:
    budget = Budget(4000, 0.05)
    assert ping_s(subscribers, budget) == seconds
    assert 2 * subscribers / ping_s(subscribers, budget) <= 4000 / 20


def test_pings_come_before_the_gateway_closes_an_idle_connection() -> None:
    assert ping_s(1_000_000, Budget(4000, 0.05)) == LONGEST_PING_S < 600


@pytest.mark.parametrize(("subscribers", "interval_s"), [(1, 0.05), (200, 0.05), (1000, 0.25), (40_000, 10.0)])
def test_the_interval_stretches_to_the_budget_of_messages(subscribers: int, interval_s: float) -> None:
    assert plan(pairs(subscribers), BUDGET).interval_s == pytest.approx(interval_s)


def test_a_large_audience_is_served_in_turns() -> None:
    first = plan(pairs(100_000), BUDGET)
    assert sum(shard.subscribers for shard in first.shards) <= planner.TURN_S * 4000
    assert round_s(100_000, BUDGET) == 25.0


@pytest.mark.parametrize(
    ("subscribers", "messages_per_s", "posts_per_s", "shards"),
    [
        (1, 4000, 4000, 1),
        (1000, 4000, 4000, 1),
        (100_000, 4000, 4000, 1),  # the budget is what holds it up
        (100_000, 4000, 1000, 4),
        (5000, 1_000_000, 4000, 2),  # without a budget: each busy for a second
        (100_000, 1_000_000, 4000, 16),
        (10, 4000, 100, 1),
    ],
)
def test_shards_are_as_many_as_keep_up_with_the_budget(
    subscribers: int, messages_per_s: int, posts_per_s: int, shards: int
) -> None:
    assert len(plan(pairs(subscribers), Budget(messages_per_s, 0.05), posts_per_s).shards) == shards


def test_a_bucket_larger_than_a_turn_is_a_turn_of_its_own() -> None:
    todo = plan([(7, 5000), (8, 1)], Budget(10, 0.05))
    assert [shard.buckets for shard in todo.shards] == [(7,)]
    assert todo.interval_s == planner.LONGEST_PATIENCE_S


@given(audiences, budgets, speeds)
def test_an_event_brings_a_shard_across(waiting, budget: Budget, speed: float) -> None:
    for shard in plan(waiting, budget, speed).shards:
        assert Shard.of_event(shard.as_event()).buckets == shard.buckets
        assert Shard.of_event(shard.as_event()).pace == pytest.approx(shard.pace, abs=0.05)


def test_an_event_of_buckets_alone_knows_no_pace() -> None:
    shard = Shard.of_event({"buckets": [1, 2]})
    assert (shard.buckets, shard.pace) == ((1, 2), math.inf)
    assert not shard.keeps_pace(1000, 0.1)


# ---------------------------------------------------------------- Turn after turn


def test_whoever_has_the_newest_version_is_left_in_peace() -> None:
    delivered = dict.fromkeys(range(BUCKETS), 5)
    assert TurnPlanner(BUDGET).turn(5, Audience(evenly(100), delivered), 0.0).shards == ()


def test_changes_before_the_budget_has_paid_wait_for_the_next_turn() -> None:
    turns = TurnPlanner(BUDGET)
    assert turns.turn(5, Audience(evenly(1000), {}), 0.0).shards
    delivered = dict.fromkeys(range(BUCKETS), 5)
    early = turns.turn(6, Audience(evenly(1000), delivered), 0.2)
    assert (early.shards, early.interval_s) == ((), pytest.approx(0.05))
    assert turns.turn(6, Audience(evenly(1000), delivered), 0.26).shards


def test_what_is_under_way_is_not_set_off_twice_and_what_was_lost_is() -> None:
    turns = TurnPlanner(BUDGET)
    audience = Audience(evenly(10), {})
    (shard,) = turns.turn(5, audience, 0.0).shards
    assert turns.turn(5, audience, shard.within_s).shards == ()
    assert turns.turn(6, audience, shard.within_s).shards == ()
    assert turns.turn(6, audience, shard.within_s + planner.GRACE_S).shards


def test_who_joins_while_a_shard_is_under_way_does_not_wait_for_it() -> None:
    turns = TurnPlanner(BUDGET)
    first = [0] * BUCKETS
    first[3] = 1
    turns.turn(5, Audience(first, {}), 0.0)
    first[4] = 1
    assert [shard.buckets for shard in turns.turn(5, Audience(first, {}), 0.1).shards] == [(4,)]


def test_who_was_served_longest_ago_comes_first_whatever_is_owed_to_all() -> None:
    served = {bucket: 1000 - bucket for bucket in range(BUCKETS)}  # the last bucket has waited longest
    owed = Audience(evenly(6400), {}, served=served)
    behind = Audience(evenly(6400), dict.fromkeys(range(BUCKETS), 4), served=served)
    mixed = Audience(evenly(6400), {0: 4, 63: 4}, served=served)
    assert owed.lagging(5) == behind.lagging(5) == mixed.lagging(5) == list(reversed(range(BUCKETS)))


def test_debts_everywhere_again_and_again_starve_no_bucket() -> None:
    """The figures turn stale and fresh every second; a round takes 25."""
    turns = TurnPlanner(Budget(4000, 0.05))
    served: dict[int, int] = {}
    longest = 0
    for second in range(1, 100):
        todo = turns.turn(second, Audience(evenly(100_000), {}, served=served), float(second))
        served |= {bucket: second for shard in todo.shards for bucket in shard.buckets}
        turns.forget_what_is_under_way()
        longest = max(longest, *(second - served.get(bucket, 0) for bucket in range(BUCKETS)))
    assert longest <= round_s(100_000, Budget(4000, 0.05)) + planner.TURN_S


@given(
    st.lists(st.integers(0, 5000), min_size=8, max_size=8).filter(any),
    st.lists(st.booleans(), max_size=60),
)
def test_nobody_starves_whatever_is_lost(counts: list[int], losses: list[bool]) -> None:
    """Turns against a clock: each shard is lost, or delivers; the version moves on all the time."""
    turns = TurnPlanner(Budget(1000, 0.05))
    audience = Audience(counts, {})
    delivered: dict[int, int] = {}
    lost = iter(losses)
    now, version = 0.0, 1
    for _ in range(400):
        version += 1
        todo = turns.turn(version, Audience(counts, delivered), now)
        for shard in todo.shards:
            if not next(lost, False):
                delivered |= dict.fromkeys(shard.buckets, version)
        now += 0.5
    waits = [version - delivered.get(bucket, 0) for bucket, size in enumerate(audience.sizes) if size]
    # A round of 40,000 messages takes 40 s, 80 of these versions; a shard that was lost costs 21 s more.
    assert max(waits) <= 2 * (sum(counts) / 1000 + 21) / 0.5 + 2


# ---------------------------------------------------------------- What a shard can do


@given(speeds, st.floats(0, 1e6), st.booleans())
def test_an_estimate_moves_by_a_quarter_at_most_and_stays_in_bounds(was: float, achieved: float, kept: bool) -> None:
    now = learned(was, achieved, kept_pace=kept)
    assert planner.LEAST_POSTS_PER_S <= now <= planner.MOST_POSTS_PER_S
    assert 0.75 * was <= now + 1e-9 <= 1.25 * was + 1e-6 or now in {planner.LEAST_POSTS_PER_S, planner.MOST_POSTS_PER_S}


@given(speeds, speeds)
def test_an_estimate_comes_to_what_shards_achieve(was: float, achieved: float) -> None:
    for _ in range(40):
        was = learned(was, achieved, kept_pace=False)
    assert was == pytest.approx(achieved, rel=0.01)


def test_an_estimate_that_is_too_low_grows_although_its_pace_hides_it() -> None:
    estimate = 500.0
    for _ in range(30):
        estimate = learned(estimate, 400.0, kept_pace=True)
    assert estimate > 5000
