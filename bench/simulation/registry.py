"""The registry of subscribers, kept in memory."""

import itertools
from collections.abc import Mapping, Sequence

from voting.broadcast.planner import PRIOR_POSTS_PER_S
from voting.broadcast.subscribers import BUCKETS, Bucket


class Registry:
    """`voting.broadcast.subscribers.Subscribers` without a store."""

    def __init__(self, subscribers: int) -> None:
        self.buckets: list[list[str]] = [
            [str(number) for number in range(bucket, subscribers, BUCKETS)] for bucket in range(BUCKETS)
        ]
        for members in self.buckets:
            members.sort()
        self.delivered: dict[int, int] = {}
        self.served: dict[int, int] = {}
        self._deliveries = itertools.count(1)
        self.posts_per_s = PRIOR_POSTS_PER_S
        self._halfway: dict[int, tuple[str, int]] = {}
        self._begun: dict[int, int] = {}

    def read(self, numbers: Sequence[int], at: int) -> list[Bucket]:
        ours = [number for number in numbers if not at or self._begun.get(number, 0) < at]
        self._begun |= dict.fromkeys(ours, at)
        return [self._bucket(number) for number in ours]

    def _bucket(self, number: int) -> Bucket:
        if number not in self._halfway:
            return Bucket(number, self.buckets[number], str(self.delivered.get(number, "")))
        after, least = self._halfway[number]
        return Bucket(number, [each for each in self.buckets[number] if each > after], "", least)

    def mark_delivered(self, versions: Mapping[int, int], before: Mapping[int, str]) -> None:  # noqa: ARG002 - no bucket is owed a resend here
        for number, version in versions.items():
            self.delivered[number] = max(version, self.delivered.get(number, 0))
            self.served[number] = next(self._deliveries)
            self._halfway.pop(number, None)

    def mark_halfway(self, bucket: Bucket, after: str, least: int) -> None:
        self._halfway[bucket.number] = after, least
