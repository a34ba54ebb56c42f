from hypothesis import given
from hypothesis import strategies as st

from voting.broadcast import plan
from voting.connections import BUCKETS

sizes = st.lists(st.integers(0, 5000), min_size=BUCKETS, max_size=BUCKETS)


@given(sizes)
def test_every_occupied_bucket_is_in_exactly_one_shard(subscribers: list[int]) -> None:
    shards = plan(subscribers, least_interval_ms=50, messages_per_s=4000).shards
    assert sorted(bucket for shard in shards for bucket in shard) == [i for i, n in enumerate(subscribers) if n]
    assert all(shards)


def test_nobody_there_means_no_shard() -> None:
    assert plan([0] * BUCKETS, least_interval_ms=50, messages_per_s=4000).shards == ()


def test_the_interval_stretches_to_the_budget_of_messages() -> None:
    assert plan([10] * BUCKETS, least_interval_ms=50, messages_per_s=4000).interval_s == 0.05
    assert plan([1000] * BUCKETS, least_interval_ms=50, messages_per_s=4000).interval_s == 4.0


def test_few_subscribers_are_one_shard_and_many_are_several() -> None:
    assert len(plan([10] * BUCKETS, least_interval_ms=50, messages_per_s=4000).shards) == 1
    assert len(plan([1000] * BUCKETS, least_interval_ms=50, messages_per_s=4000).shards) == 4
