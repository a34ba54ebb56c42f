"""The registry of subscribers on a real Valkey: covers subscribers."""

import time

from redis import Redis

from voting.broadcast.subscribers import BUCKETS, DELIVERED, EXPIRE_S, State, Subscribers, _key, bucket_of


def test_a_subscriber_is_in_its_bucket_until_it_is_removed(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    subscribers.add("one=")
    subscribers.add("one=")
    subscribers.add("two=")
    assert sorted(subscribers.of(range(BUCKETS))) == ["one=", "two="]
    assert subscribers.of([bucket_of("one=")]).count("one=") == 1
    subscribers.remove(["one="])
    assert subscribers.of(range(BUCKETS)) == ["two="]


def test_a_registration_without_a_ping_expires_and_a_ping_renews_it(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    for id_ in ("lost", "alive"):
        redis.zadd(_key(bucket_of(id_)), {id_: time.time() - 1})
    subscribers.add("alive")
    assert subscribers.of(range(BUCKETS)) == ["alive"]
    assert redis.zscore(_key(bucket_of("lost")), "lost") is None
    assert redis.zscore(_key(bucket_of("alive")), "alive") - time.time() > EXPIRE_S - 10


def test_state_tells_sizes_and_what_was_delivered(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    assert subscribers.state() == State([0] * BUCKETS, {}, {})
    subscribers.add("one=")
    subscribers.mark_delivered({bucket_of("one="): 17})
    state = subscribers.state()
    assert state.sizes[bucket_of("one=")] == sum(state.sizes) == 1
    assert state.delivered == {bucket_of("one="): 17}


def test_state_tells_how_fast_a_shard_was_and_when(redis: Redis) -> None:
    Subscribers(redis).mark_speed(1234.5)
    state = Subscribers(redis).state()
    assert state.posts_per_s == 1234.5
    assert state.measured_s_ago < 10


def test_what_was_delivered_never_goes_back(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    subscribers.mark_delivered({3: 17})
    subscribers.mark_delivered({3: 16, 4: 1})
    assert subscribers.state().delivered == {3: 17, 4: 1}


def test_a_debt_that_comes_up_under_way_is_not_settled_by_that_delivery(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    number = bucket_of("one=")
    subscribers.add("one=")
    (bucket,) = subscribers.read([number])
    subscribers.owe_all()
    subscribers.mark_delivered({number: 17}, {number: bucket.before})
    assert number not in subscribers.state().delivered
    (bucket,) = subscribers.read([number])
    subscribers.mark_delivered({number: 17}, {number: bucket.before})
    assert subscribers.state().delivered == {number: 17}


def test_state_tells_when_each_bucket_was_served_also_where_a_debt_came_up_meanwhile(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    subscribers.owe_all()
    subscribers.mark_delivered({7: 17})  # of what stood there before the debt
    subscribers.mark_delivered({3: 17}, {3: redis.hget(DELIVERED, "3").decode()})
    state = subscribers.state()
    assert state.delivered == {3: 17}
    assert list(state.served) == [7, 3]
    assert time.time() - 60 < state.served[7] / 1e6 <= state.served[3] / 1e6 <= time.time() + 60


def test_what_an_attempt_has_begun_is_left_to_it_and_not_to_a_later_one(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    subscribers.add("one=")
    number = bucket_of("one=")
    other = (number + 1) % BUCKETS
    assert [bucket.number for bucket in subscribers.read([number], 17)] == [number]
    assert [bucket.number for bucket in subscribers.read([number, other], 17)] == [other]
    assert [bucket.connection_ids for bucket in subscribers.read([number], 18)] == [["one="]]
    assert subscribers.read([number], 16) == []
    assert subscribers.of([number]) == ["one="]


def test_a_late_attempt_does_not_let_a_newer_one_begin_twice(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    assert len(subscribers.read([7], 18)) == 1
    assert subscribers.read([7], 17) == []
    assert subscribers.read([7], 18) == []


def test_an_attempt_begins_where_the_last_one_stopped(redis: Redis) -> None:
    subscribers = Subscribers(redis)
    ids = sorted(id_ for id_ in (f"c{n}=" for n in range(2000)) if bucket_of(id_) == 7)
    for id_ in ids:
        subscribers.add(id_)
    (whole,) = subscribers.read([7])
    assert (whole.connection_ids, whole.least) == (ids, None)
    subscribers.mark_halfway(whole, ids[4], 16)
    subscribers.mark_delivered({7: 15})
    subscribers.mark_halfway(whole, ids[4], 16)
    (rest,) = subscribers.read([7])
    assert (rest.connection_ids, rest.least, rest.before) == (ids[5:], 16, whole.before)
    subscribers.mark_delivered({7: 16})
    (again,) = subscribers.read([7])
    assert (again.connection_ids, again.least) == (ids, None)
