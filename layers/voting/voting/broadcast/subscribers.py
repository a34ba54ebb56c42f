"""The registry of subscribers: the WebSocket connections that are sent every change, in 64 buckets."""

import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from voting.lua import script

if TYPE_CHECKING:
    from redis import Redis

EXPIRE_S = 15 * 60  # a page pings every 5 to 9 minutes at least; API Gateway's $disconnect is best effort
BUCKETS = 64  # a worker counts all of them for each vote: 64 take 0.2 ms, 256 would take twice as long
# All our keys carry the hash tag of the list of votes, so they are on one node of a cluster (voting.cluster).
SUBSCRIBERS = "{votes}:subscribers:"  # followed by the number of the bucket
DELIVERED = "{votes}:delivered"
SERVED = "{votes}:served"
HALFWAY = "{votes}:halfway"
BEGUN = "{votes}:begun"
SPEED = "{votes}:speed"

STATE = script("broadcast", "read_state")
MARK = script("broadcast", "mark_delivered")
BEGIN = script("broadcast", "begin_attempt")
PUT = script("broadcast", "set_fields")
ADD = script("broadcast", "add_subscriber")


def bucket_of(connection_id: str) -> int:
    """Return the bucket of *connection_id*; a broadcast is divided into shards by buckets."""
    return zlib.crc32(connection_id.encode()) % BUCKETS


def _key(bucket: int) -> str:
    return f"{SUBSCRIBERS}{bucket}"


class State(NamedTuple):
    """What a broadcast is planned from."""

    sizes: list[int]  # of each bucket
    delivered: dict[int, int]  # bucket: the oldest version that a subscriber was sent; missing if a resend is owed
    served: dict[int, int]  # bucket: when it was last served, in µs of Redis' clock
    posts_per_s: float | None = None  # of one shard, by the last estimate; None if there is none
    measured_s_ago: float = 0.0


class Bucket(NamedTuple):
    """The subscribers of one bucket that an attempt has to serve; an earlier attempt may have served the others."""

    number: int
    connection_ids: Sequence[str]  # sorted; those that are still to be served
    before: str  # the delivered version read at the start of the first attempt; detects a newly owed resend
    least: int | None = None  # the version that the others were sent; None if there are no others

    def has(self, version: int) -> bool:
        """Return whether every subscriber had been sent *version* when the bucket was read."""
        return bool(self.before) and self.least is None and int(self.before) >= version


class Subscribers:
    """Sorted sets of connection ids, scored by expiry, and the version that each bucket has been sent.

    Every write also succeeds while Redis' memory is full (voting.lua): the data is small, and viewers see
    the backlog shrink.
    """

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._state = redis.register_script(STATE)
        self._mark = redis.register_script(MARK)
        self._put = redis.register_script(PUT)
        self._add = redis.register_script(ADD)

    def add(self, connection_id: str) -> bool:
        """Register *connection_id*, or renew its registration; return whether it is new."""
        return bool(self._add(keys=[_key(bucket_of(connection_id))], args=[time.time() + EXPIRE_S, connection_id]))

    def owe_all(self) -> None:
        """Make the newest results due for every bucket, even if its subscribers were already sent this version.

        The order stays the same: the buckets that were served longest ago come first.
        """
        debt = -time.time_ns()  # unique
        self._put(keys=[DELIVERED], args=[part for bucket in range(BUCKETS) for part in (bucket, debt)])

    def remove(self, connection_ids: Iterable[str]) -> None:
        """Remove *connection_ids* from the registry."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for connection_id in connection_ids:
                pipeline.zrem(_key(bucket_of(connection_id)), connection_id)
            pipeline.execute()

    def of(self, buckets: Iterable[int]) -> list[str]:
        """Return the ids in *buckets*, after removing those that have expired."""
        return [connection_id for bucket in self.read(buckets) for connection_id in bucket.connection_ids]

    def read(self, numbers: Iterable[int], at: int = 0) -> list[Bucket]:
        """Return the buckets of *numbers*, in this order, without the subscribers that an earlier attempt has served.

        An attempt passes *at*, the time of its invocation, in ms since the epoch. Buckets that the same attempt
        or a later one has begun are left out: an invocation that comes twice or late would only repeat their frames.
        Expired subscribers are removed first.
        """
        buckets = [str(number) for number in numbers]
        if not buckets:
            return []
        now = time.time()
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.eval(BEGIN, 1, BEGUN, at, *buckets)
            pipeline.hmget(DELIVERED, buckets)
            pipeline.hmget(HALFWAY, buckets)
            for bucket in buckets:
                pipeline.zremrangebyscore(f"{SUBSCRIBERS}{bucket}", "-inf", now)
            for bucket in buckets:
                pipeline.zrange(f"{SUBSCRIBERS}{bucket}", 0, -1)
            is_free, delivered, halfway, *counts_and_members = pipeline.execute()
        members = counts_and_members[len(buckets) :]
        return list(compress(map(_bucket, buckets, members, delivered, halfway), is_free))

    def state(self) -> State:
        """Read the size of each bucket, the version it has been sent and when, and the speed of a shard."""
        keys = [DELIVERED, SPEED, SERVED]
        sizes, delivered, served, (posts_per_s, at) = self._state(keys=keys, args=[SUBSCRIBERS, BUCKETS])
        versions = {bucket: version for bucket, version in _pairs(delivered).items() if version >= 0}
        state = State(list(map(int, sizes.split())), versions, _pairs(served))
        if posts_per_s is None:
            return state
        return state._replace(posts_per_s=float(posts_per_s), measured_s_ago=max(0.0, time.time() - float(at)))

    def mark_delivered(self, versions: Mapping[int, int], before: Mapping[int, str] | None = None) -> None:
        """Record that every subscriber of a bucket was sent the bucket's version in *versions*, or a newer one.

        A bucket that has become owed a resend since *before* (`Bucket.before`) was read stays owed.
        """
        before = before or {}
        if versions:
            triples = ((number, version, before.get(number, "")) for number, version in versions.items())
            self._mark(keys=[DELIVERED, HALFWAY, SERVED], args=[part for triple in triples for part in triple])

    def mark_halfway(self, bucket: Bucket, after: str, least: int) -> None:
        """Record that an attempt at *bucket* stopped *after* this id, and sent version *least* or newer up to there."""
        self._put(keys=[HALFWAY], args=[bucket.number, json.dumps([after, least, bucket.before])])

    def mark_speed(self, posts_per_s: float) -> None:
        """Record how many posts per second one shard makes."""
        self._put(keys=[SPEED], args=["posts_per_s", round(posts_per_s, 1), "at", round(time.time(), 1)])


def _pairs(words: bytes) -> dict[int, int]:
    numbers = list(map(int, words.split()))
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _bucket(number: str, members: Sequence[bytes], delivered: bytes | None, halfway: bytes | None) -> Bucket:
    connection_ids = sorted(member.decode() for member in members)
    before = delivered.decode() if delivered else ""
    if halfway is None:
        return Bucket(int(number), connection_ids, before)
    after, least, before = json.loads(halfway)
    return Bucket(int(number), [each for each in connection_ids if each > after], before, least)
