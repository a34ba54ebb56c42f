"""The newest tally, kept in Redis for whoever shows it."""

import json
from dataclasses import dataclass

from redis import Redis

from voting.full_memory import TOUCH_HASH
from voting.results import Tally

SNAPSHOT = "{votes}:snapshot"

# KEYS[1] snapshot
# ARGV[1] version   ARGV[2] counts, as JSON
# Returns the version that is now there: a greater one than ours stays.
WRITE = (
    TOUCH_HASH
    + """
local now = redis.call('TIME')
local there = redis.call('HGET', KEYS[1], 'version')
if there and tonumber(there) > tonumber(ARGV[1]) then return tonumber(there) end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'counts', ARGV[2], 'at', now[1] * 1000 + math.floor(now[2] / 1000))
return tonumber(ARGV[1])
"""
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tally, and how long ago the database confirmed it (by Redis' clock)."""

    tally: Tally
    age_s: float


class Snapshots:
    """One hash in Redis: what the database last said, and when. Its version never goes back."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._write = redis.register_script(WRITE)

    def write(self, tally: Tally) -> int:
        """Keep *tally* unless a newer one is there; return the version that is there now."""
        counts = json.dumps(dict(tally.counts), separators=(",", ":"))
        return int(self._write(keys=[SNAPSHOT], args=[tally.version, counts]))

    def read(self) -> Snapshot | None:
        """The newest tally, or None where the worker has never written one."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.hmget(SNAPSHOT, "version", "counts", "at")
            (seconds, microseconds), (version, counts, at) = pipeline.execute()
        if version is None:
            return None
        age_s = seconds + microseconds / 1e6 - int(at) / 1000
        return Snapshot(Tally(int(version), json.loads(counts)), max(0.0, age_s))
