import time

from redis import Redis

from voting.connections import BUCKETS, EXPIRE_S, Subscribers, _key, bucket_of


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
    assert subscribers.state() == ([0] * BUCKETS, {})
    subscribers.add("one=")
    subscribers.mark_delivered([bucket_of("one=")], 17)
    counts, delivered = subscribers.state()
    assert counts[bucket_of("one=")] == sum(counts) == 1
    assert delivered == {bucket_of("one="): 17}
