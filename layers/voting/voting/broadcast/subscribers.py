"""The registry of subscribers: WebSocket connections that want every change."""

import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redis import Redis

from voting.queue.full_memory import TOUCH_HASH, TOUCH_SORTED_SET

EXPIRE_S = 15 * 60  # a page pings every 5 to 9 minutes at least; API Gateway's $disconnect is best effort
BUCKETS = 64  # a worker counts them all for each vote: 64 take it 0.2 ms, 256 would take it twice that
# The tag of the votes' keys: all our keys share a slot, so that one node of a cluster is enough (voting.cluster).
SUBSCRIBERS = "{votes}:subscribers:"  # and the bucket's number
DELIVERED = "{votes}:delivered"
SERVED = "{votes}:served"
HALFWAY = "{votes}:halfway"
BEGUN = "{votes}:begun"
SPEED = "{votes}:speed"

# KEYS[1] delivered   KEYS[2] speed   KEYS[3] served
# ARGV[1] what the keys of the registry begin with   ARGV[2] how many there are
# Returns the sizes, what was delivered and when each bucket was served, each as one string of words with spaces between
# them: one long string is read faster than many numbers. Then the speed.
# The registry's keys are not declared: there are many, and they take longer to send than to count.
STATE = """
local sizes = {}
for bucket = 0, ARGV[2] - 1 do sizes[bucket + 1] = redis.call('ZCARD', ARGV[1] .. bucket) end
local delivered, served = redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[3])
return {
  table.concat(sizes, ' '), table.concat(delivered, ' '), table.concat(served, ' '),
  redis.call('HMGET', KEYS[2], 'posts_per_s', 'at')
}
"""

# KEYS[1] delivered   KEYS[2] halfway   KEYS[3] served
# ARGV    for each bucket three: its number, the version that everybody in it was sent, what stood there before
# A version never goes back. A debt (a number below zero) that came up during the delivery stays: the bucket is sent
# again. Even so it was served now, so others that wait come before it.
MARK = (
    TOUCH_HASH
    + """
local now = redis.call('TIME')
local at = now[1] .. string.format('%06d', now[2])
local served = {}
for i = 1, #ARGV, 3 do
    served[#served + 1], served[#served + 2] = ARGV[i], at
    local there = redis.call('HGET', KEYS[1], ARGV[i])
    local is_owed = there and tonumber(there) < 0 and there ~= ARGV[i + 2]
    if not is_owed and (not there or tonumber(there) < tonumber(ARGV[i + 1])) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
    redis.call('HDEL', KEYS[2], ARGV[i])
end
redis.call('HSET', KEYS[3], unpack(served))
"""
)

# KEYS[1] a hash
# ARGV    field, value, ...
PUT = TOUCH_HASH + "return redis.call('HSET', KEYS[1], unpack(ARGV))"

# KEYS[1] a bucket
# ARGV[1] when the connection expires   ARGV[2] its id
# Returns 1 where it was unknown, else 0.
ADD = TOUCH_SORTED_SET + "return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])"


def bucket_of(connection_id: str) -> int:
    """The bucket that holds *connection_id*: a broadcast is shared out by buckets."""
    return zlib.crc32(connection_id.encode()) % BUCKETS


def _key(bucket: int) -> str:
    return f"{SUBSCRIBERS}{bucket}"


class State(NamedTuple):
    """What a broadcast is planned by."""

    sizes: list[int]  # of each bucket
    delivered: dict[int, int]  # bucket: the least version that its subscribers were sent; none where it is owed
    served: dict[int, int]  # bucket: when that was, in µs of Redis' clock
    posts_per_s: float | None = None  # of one shard, as last reckoned
    measured_s_ago: float = 0.0


@dataclass(slots=True)
class Bucket:
    """The subscribers of one bucket, some of whom an earlier attempt may have served already."""

    number: int
    connection_ids: Sequence[str]  # sorted; those that still wait
    before: str  # what stood for the bucket when the first attempt began, to tell a debt that came up since
    least: int | None = None  # the version that those who are served already were sent

    def has(self, version: int) -> bool:
        """Whether everybody in it was sent *version* by the time that it was read."""
        return bool(self.before) and self.least is None and int(self.before) >= version


class Subscribers:
    """Sorted sets of connection ids, scored by when they expire, and the version each bucket has been sent.

    All of it can be written while Redis' memory is full: it is small, and viewers see how the backlog goes down.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._state = redis.register_script(STATE)
        self._mark = redis.register_script(MARK)
        self._put = redis.register_script(PUT)
        self._add = redis.register_script(ADD)

    def add(self, connection_id: str) -> bool:
        """Register *connection_id*, or keep its registration alive; return whether it was unknown."""
        return bool(self._add(keys=[_key(bucket_of(connection_id))], args=[time.time() + EXPIRE_S, connection_id]))

    def owe_all(self) -> None:
        """Have the newest results sent to everybody once more, though their version is the one that they have.

        It changes nothing about who comes first: the buckets that were served longest ago.
        """
        debt = -time.time_ns()  # no two are equal
        self._put(keys=[DELIVERED], args=[part for bucket in range(BUCKETS) for part in (bucket, debt)])

    def remove(self, connection_ids: Iterable[str]) -> None:
        """Forget *connection_ids*, and no others."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for connection_id in connection_ids:
                pipeline.zrem(_key(bucket_of(connection_id)), connection_id)
            pipeline.execute()

    def of(self, buckets: Iterable[int]) -> list[str]:
        """The ids in *buckets*; those that expired are swept out first."""
        return [connection_id for bucket in self.read(buckets) for connection_id in bucket.connection_ids]

    def read(self, numbers: Iterable[int], at: int = 0) -> list[Bucket]:
        """The buckets of *numbers*, in this order, from where an earlier attempt stopped; the expired are swept out.

        An attempt tells *at* what time it was set off, in ms since the epoch. Left out is what another attempt of then
        or later has begun: an invoke that comes twice, or late, would only send everybody the same once more.
        """
        fields = [str(number) for number in numbers]
        if not fields:
            return []
        now = time.time()
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hmget(BEGUN, fields)
            if at:
                pipeline.eval(PUT, 1, BEGUN, *(part for field in fields for part in (field, at)))
            pipeline.hmget(DELIVERED, fields)
            pipeline.hmget(HALFWAY, fields)
            for number in fields:
                pipeline.zremrangebyscore(f"{SUBSCRIBERS}{number}", "-inf", now)
                pipeline.zrange(f"{SUBSCRIBERS}{number}", 0, -1)
            answers = pipeline.execute()
        begun, delivered, halfway = answers[0], *answers[-2 * len(fields) - 2 : -2 * len(fields)]
        buckets = map(_bucket, fields, answers[-2 * len(fields) + 1 :: 2], delivered, halfway)
        return [bucket for bucket, since in zip(buckets, begun, strict=True) if not (at and since and int(since) >= at)]

    def state(self) -> State:
        """How many ids each bucket holds, the version that each has been sent and when, and how fast a shard was."""
        keys = [DELIVERED, SPEED, SERVED]
        sizes, delivered, served, (posts_per_s, at) = self._state(keys=keys, args=[SUBSCRIBERS, BUCKETS])
        versions = {bucket: version for bucket, version in _pairs(delivered).items() if version >= 0}
        state = State(list(map(int, sizes.split())), versions, _pairs(served))
        if posts_per_s is None:
            return state
        return state._replace(posts_per_s=float(posts_per_s), measured_s_ago=max(0.0, time.time() - float(at)))

    def mark_delivered(self, versions: Mapping[int, int], before: Mapping[int, str] | None = None) -> None:
        """Record that everybody in a bucket was sent its version of *versions*, or a newer one.

        A bucket that has come to be owed since *before* (`Bucket.before`) was read stays owed.
        """
        before = before or {}
        if versions:
            triples = ((number, version, before.get(number, "")) for number, version in versions.items())
            self._mark(keys=[DELIVERED, HALFWAY, SERVED], args=[part for triple in triples for part in triple])

    def mark_halfway(self, bucket: Bucket, after: str, least: int) -> None:
        """Record that an attempt at *bucket* stopped *after* this id, and sent *least* or newer up to there."""
        self._put(keys=[HALFWAY], args=[bucket.number, json.dumps([after, least, bucket.before])])

    def mark_speed(self, posts_per_s: float) -> None:
        """Record how much one shard posts a second."""
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
