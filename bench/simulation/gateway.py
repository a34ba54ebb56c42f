"""API Gateway's throttle, and the votes that share it with the posts."""

import math
import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Gateway:
    """One token bucket, shared by posts and by votes that arrive as a Poisson process."""

    per_s: float
    burst: float
    votes_per_s: float
    rng: random.Random
    votes: int = 0
    votes_refused: int = 0
    _tokens: float = field(init=False)
    _at: float = 0.0
    _next_vote: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = self.burst
        self._next_vote = self._vote_after(0.0)

    def admits(self, now: float) -> bool:
        """Whether a post at *now* passes the throttle, after the votes that arrived before it."""
        while self._next_vote <= now:
            self.votes += 1
            self.votes_refused += not self._take(self._next_vote)
            self._next_vote = self._vote_after(self._next_vote)
        return self._take(now)

    def _vote_after(self, now: float) -> float:
        return now + self.rng.expovariate(self.votes_per_s) if self.votes_per_s else math.inf

    def _take(self, now: float) -> bool:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.per_s)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
