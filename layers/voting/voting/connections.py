"""The registry of subscribers: WebSocket connections that want every change."""

import time
import zlib
from collections.abc import Iterable, Sequence

from redis import Redis

EXPIRE_S = 15 * 60  # a page pings every 5 minutes; API Gateway's $disconnect is best effort
BUCKETS = 16
DELIVERED = "voting:delivered"


def bucket_of(connection_id: str) -> int:
    """The bucket that holds *connection_id*: a broadcast is shared out by buckets."""
    return zlib.crc32(connection_id.encode()) % BUCKETS


def _key(bucket: int) -> str:
    return f"voting:subscribers:{bucket}"


class Subscribers:
    """Sorted sets of connection ids, scored by when they expire, and the version each bucket has been sent."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, connection_id: str) -> bool:
        """Register *connection_id*, or keep its registration alive; return whether it was unknown."""
        return self._redis.zadd(_key(bucket_of(connection_id)), {connection_id: time.time() + EXPIRE_S}) == 1

    def owe(self, connection_id: str) -> None:
        """Have the newest results sent to *connection_id*, which may have missed some; its bucket gets them again."""
        self._redis.hdel(DELIVERED, str(bucket_of(connection_id)))

    def remove(self, connection_ids: Iterable[str]) -> None:
        """Forget *connection_ids*, and no others."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for connection_id in connection_ids:
                pipeline.zrem(_key(bucket_of(connection_id)), connection_id)
            pipeline.execute()

    def of(self, buckets: Iterable[int]) -> list[str]:
        """The ids in *buckets*; those that expired are swept out first."""
        now = time.time()
        with self._redis.pipeline(transaction=False) as pipeline:
            for bucket in buckets:
                pipeline.zremrangebyscore(_key(bucket), "-inf", now)
                pipeline.zrange(_key(bucket), 0, -1)
            return [member.decode() for members in pipeline.execute()[1::2] for member in members]

    def state(self) -> tuple[list[int], dict[int, int]]:
        """How many ids each bucket holds, and the version that each has been sent last."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for bucket in range(BUCKETS):
                pipeline.zcard(_key(bucket))
            pipeline.hgetall(DELIVERED)
            *counts, delivered = pipeline.execute()
        return counts, {int(bucket): int(version) for bucket, version in delivered.items()}

    def mark_delivered(self, buckets: Sequence[int], version: int) -> None:
        """Record that everybody in *buckets* has been sent *version*."""
        self._redis.hset(DELIVERED, mapping={str(bucket): version for bucket in buckets})
