"""The delivery that the product's own is compared with."""

from bench.simulation.registry import Registry
from voting.broadcast.planner import Shard


class UnresumableDelivery:
    """A delivery that keeps no progress: each run sends one frame to the whole shard and records it as delivered."""

    def __init__(self, shard: Shard, registry: Registry, version: int) -> None:
        self.version = version
        self._shard = shard
        self._registry = registry
        self._ids = (each for bucket in registry.read(shard.buckets, 0) for each in bucket.connection_ids)

    def next(self) -> tuple[str, bytes] | None:
        connection_id = next(self._ids, None)
        return None if connection_id is None else (connection_id, b"")

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        """Do nothing: no progress is kept."""

    def finish(self) -> None:
        self._registry.mark_delivered(dict.fromkeys(self._shard.buckets, self.version), {})
