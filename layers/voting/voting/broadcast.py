"""Who is sent what, and when: the plan of a broadcast, and one shard of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from voting.connections import BUCKETS, Subscribers
from voting.posting import Outcome, Poster
from voting.results import Results

SHARD_SUBSCRIBERS = 4000  # what one execution environment posts to in well under a second


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards of a broadcast, each a set of the registry's buckets, and the least time between two broadcasts."""

    shards: tuple[tuple[int, ...], ...]
    interval_s: float


def plan(subscribers: Sequence[int], *, least_interval_ms: int, messages_per_s: int) -> Plan:
    """Share out the buckets, of which *subscribers* tells the sizes, and stretch the interval to the budget.

    API Gateway shares its throttle between these messages and the votes, and bills each message.
    """
    total = sum(subscribers)
    count = min(BUCKETS, -(-total // SHARD_SUBSCRIBERS))
    occupied = [bucket for bucket, size in enumerate(subscribers) if size]
    shards = [tuple(occupied[first::count]) for first in range(count)] if count else []
    return Plan(tuple(filter(None, shards)), max(least_interval_ms / 1000, total / messages_per_s))


def deliver(results: Results, buckets: Sequence[int], subscribers: Subscribers, poster: Poster) -> Outcome:
    """Post *results* to everybody in *buckets*, forget who is gone, and record what was delivered.

    Raises:
        posting.Forbidden: the management API refuses us; nothing is recorded.
    """
    outcome = poster.post(subscribers.of(buckets), results.frame())
    if outcome.gone:
        subscribers.remove(outcome.gone)
    subscribers.mark_delivered(buckets, results.version)
    return outcome
