"""The order of posts: which connection is posted to next, when, and how often a failed post is retried."""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from voting.broadcast.feed import Feed, Limits
from voting.jitter import full_jitter_s

BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 2.0
ATTEMPTS = 4  # at a post that meets a broken connection or a server error
# API Gateway answers 429 not only above the account's throttle, but also where a single client does not read. So a
# connection that is throttled while others are not is given up after THROTTLED_ATTEMPTS: 6 s on average.
THROTTLED_ATTEMPTS = 10
# After this many it no longer counts as in flight while it waits: a few hundred such clients would block all others.
HOLDING_ATTEMPTS = 3
HANGING, BROKEN = -1, 0  # in place of a status code: no response in time; no connection, or a broken one


@dataclass(slots=True)
class Outcome:
    """The result of posting to each connection."""

    sent: int = 0
    gone: list[str] = field(default_factory=list)  # 410: closed, to be removed from the registry
    failed: list[str] = field(default_factory=list)  # an error or no response: they may lack the frame
    throttled: int = 0  # responses 429, each of which was followed by a retry or a failure at the time limit
    refusal: int | None = None  # the status of the latest in `failed`, or HANGING or BROKEN; None without one


class PostSchedule:
    """Decides which connection is posted to next, from the feed, its limits and the responses so far.

    It touches no socket and reads no clock: the times that it is given and returns are those of `time.monotonic`.
    """

    def __init__(self, feed: Feed, limits: Limits, now: float) -> None:
        self.outcome = Outcome()
        self.is_forbidden = False  # the management API has answered 403
        self.frame = b""  # what to post: the newest frame of the feed, for retries too
        self.begun = 0  # attempts
        self.holding = 0  # of the retries that wait: those that still count as in flight
        self._feed = feed
        self._limits = limits
        self._feed_has_ended = False
        self._retries: deque[str] = deque()  # due now
        self._waiting: list[tuple[float, str, bool]] = []  # a heap of retries: due time, connection id, is holding
        self._attempts: dict[str, int] = {}  # failed so far, by connection id
        self._started_at = now
        self.advance(now)

    def advance(self, now: float) -> None:
        """Move the time on to *now*, and make the retries due whose wait is over."""
        self._now = now
        elapsed_s = now - self._started_at
        self._is_open = elapsed_s < self._limits.within_s and not self.is_forbidden
        self._allowed = self._limits.allowed(elapsed_s)
        while self._waiting and self._waiting[0][0] <= now:
            _, connection_id, is_holding = heapq.heappop(self._waiting)
            self.holding -= is_holding
            self._retries.append(connection_id)

    def next(self) -> str | None:
        """Return the connection to post `frame` to now; None if no post is due."""
        if not self._is_open or self.begun >= self._allowed:
            return None
        connection_id = self._retries.popleft() if self._retries else self._next_of_feed()
        if connection_id is not None:
            self.begun += 1
        return connection_id

    def is_over(self) -> bool:
        """Return whether no post will ever be due again, unless a response that is awaited asks for a retry."""
        return not self._is_open or (self._feed_has_ended and not self._retries and not self._waiting)

    def due_at(self) -> float:
        """Return when the next post is due: now if one is already, infinity if there is none to make."""
        if not self._is_open or (self._feed_has_ended and not self._retries):
            return math.inf
        if self.begun < self._allowed:
            return self._now
        return self._started_at + self._limits.due_s(self.begun + 1)

    def retry_at(self) -> float:
        """Return when the first of the waiting retries becomes due; infinity if none waits."""
        return self._waiting[0][0] if self._waiting else math.inf

    def retry_now(self, connection_id: str) -> None:
        """Post to *connection_id* again, ahead of all others, and without counting the attempt that failed."""
        self._retries.appendleft(connection_id)

    def settle(self, connection_id: str, status: int) -> None:
        """Record the *status* code of a post, or HANGING or BROKEN; schedule a retry if it is worth one."""
        if status == 200 and not self._attempts:  # nearly every post
            self.outcome.sent += 1
            self._feed.settle(connection_id)
            return
        attempts = self._attempts.pop(connection_id, 0) + 1
        if status == 403:
            self.is_forbidden = True
            self._is_open = False
        elif self._is_worth_a_retry(status, attempts):
            self.outcome.throttled += status == 429
            self._retry_later(connection_id, attempts)
        else:
            self._record(connection_id, status)

    def finish(self) -> Outcome:
        """Count the retries that were never made as failed, and return the outcome."""
        self.outcome.failed += self._retries
        self.outcome.failed += (connection_id for _, connection_id, _ in self._waiting)
        return self.outcome

    def _next_of_feed(self) -> str | None:
        post = None if self._feed_has_ended else self._feed.next()
        if post is None:
            self._feed_has_ended = True
            return None
        connection_id, self.frame = post
        return connection_id

    def _is_worth_a_retry(self, status: int, attempts: int) -> bool:
        if status == 429:  # where nothing was sent yet, the throttle is the account's and passes
            return attempts < THROTTLED_ATTEMPTS or not self.outcome.sent
        return (status == BROKEN or status >= 500) and attempts < ATTEMPTS

    def _retry_later(self, connection_id: str, attempts: int) -> None:
        self._attempts[connection_id] = attempts
        is_holding = attempts <= HOLDING_ATTEMPTS
        self.holding += is_holding
        due_at = self._now + full_jitter_s(attempts - 1, BACKOFF_S, LONGEST_BACKOFF_S)
        heapq.heappush(self._waiting, (due_at, connection_id, is_holding))

    def _record(self, connection_id: str, status: int) -> None:
        is_sent, is_gone = 200 <= status < 300, status == 410
        if is_sent:
            self.outcome.sent += 1
        elif is_gone:
            self.outcome.gone.append(connection_id)
        else:
            self.outcome.failed.append(connection_id)
            self.outcome.refusal = status
        self._feed.settle(connection_id, is_reached=is_sent or is_gone)
