"""What keeps a run of the worker from counting: told to the operator, and waited out."""

import time

from redis import Redis

from voting.database.fault import Fault, Kind, explain
from voting.jitter import full_jitter_s
from voting.queue.queue_view import TROUBLE
from voting.queue.trouble import Trouble

BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 1.0
RETRIES_AT_ONCE = 5  # after a conflict of two writers


class Failures:
    """The failures since a batch was last stored, or nothing waited."""

    def __init__(self, redis: Redis) -> None:
        self.last: Exception | None = None  # None if nothing keeps the run from counting
        self.cause = ""  # of the last one, in words for an operator
        self._in_a_row = 0
        self._retries = 0
        self._trouble = Trouble(redis, TROUBLE, "no batch gets through; what waits is kept in Redis")

    def may_retry_at_once(self, error: Exception) -> bool:
        """Whether *error* is one of the first conflicts of two writers, which a second try resolves."""
        if Fault.of(error).kind is not Kind.RETRY or self._retries >= RETRIES_AT_ONCE:
            return False
        self._retries += 1
        return True

    def met(self, error: Exception) -> None:
        """Note *error*, and keep its cause in Redis for `status`."""
        self.last, self.cause = error, explain(error)
        self._in_a_row += 1
        self._trouble.met(self.cause)

    def pause(self) -> None:
        """Sleep for a random time that may be longer after each failure (full jitter)."""
        time.sleep(full_jitter_s(self._in_a_row, BACKOFF_S, LONGEST_BACKOFF_S))

    def over(self) -> None:
        """Note that nothing keeps the run from counting."""
        self.last = None
        self._in_a_row = self._retries = 0
        self._trouble.over()
