"""What a simulation assumes, and what it measures."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the simulated world is like."""

    subscribers: int
    weight: int = 1
    votes_per_s: float = 3000.0
    throttle_per_s: float = 10_000.0  # for all APIs of one account and region
    throttle_burst: float = 5000.0
    post_median_s: float = 0.02
    post_sigma: float = 0.5  # shape of the lognormal distribution
    posts_per_s: float = 6000.0  # CPU limit of one shard: 512 MB of memory come with 0.3 of a core
    hanging_share: float = 0.01  # share of the subscribers whose posts are never answered
    environments: int = 16
    invoke_median_s: float = 0.02
    cold_start_s: float = 0.8
    twice_share: float = 0.01  # share of the invocations that Lambda repeats some seconds later
    lost_share: float = 0.01  # share of the shards whose execution environment freezes half-way and never returns
    time_limit_s: float = math.inf  # time that a function has for posting
    seed: int = 5


@dataclass(slots=True)
class Measurements:
    """What one run of the simulation counts."""

    votes: int = 0
    votes_refused: int = 0
    posts: int = 0  # attempts, in real subscribers
    throttled: int = 0
    by_second: dict[int, int] = field(default_factory=dict)  # attempts in each second
    ages_s: list[float] = field(default_factory=list)  # of the figures that each frame replaced
    oldest_s: float = 0.0  # the oldest figures on any screen, at any time
    shards: int = 0
    estimates: list[float] = field(default_factory=list)  # posts per second of one shard, as the planner saw it

    def busiest(self, seconds: int, since_s: int = 0) -> float:
        """Attempts per second, averaged over the busiest window of *seconds* whole seconds."""
        last = max(self.by_second, default=0)
        counts = [self.by_second.get(second, 0) for second in range(since_s, last + 1)]
        if len(counts) < seconds:
            return sum(counts) / seconds
        return max(sum(counts[at : at + seconds]) for at in range(len(counts) - seconds + 1)) / seconds

    @property
    def votes_refused_share(self) -> float:
        return self.votes_refused / max(1, self.votes)

    def age_s(self, share: float) -> float:
        """The *share* quantile of the ages of replaced figures; infinite if no frame was sent."""
        ordered = sorted(self.ages_s)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)))] if ordered else math.inf
