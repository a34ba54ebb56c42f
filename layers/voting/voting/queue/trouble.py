"""What keeps a part of the worker from its work: in the log when it begins and ends, and in Redis for `status`."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from voting.log_sampling import Sampler
from voting.observability import logger
from voting.queue.lua import script

REMIND_EVERY_S = 30.0

NOTE = script("note_trouble")


@dataclass(frozen=True, slots=True)
class Record:
    """The last error of a part of the worker, in ms since the epoch by Redis' clock."""

    error: str
    since_ms: int  # since when there has been trouble; the error may have been another one then
    at_ms: int  # when it was met last

    @property
    def since(self) -> str:
        """For people, in UTC."""
        return f"{datetime.fromtimestamp(self.since_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"

    def document(self) -> Mapping[str, object]:
        return {"error": self.error, "since": self.since_ms, "at": self.at_ms}


def read_trouble(redis: Redis, key: str) -> Record | None:
    """The trouble kept under *key*; None where all is well."""
    fields: list[Any] = redis.hmget(key, "error", "since", "at")
    error, since, at = fields
    return Record(error.decode(), int(since), int(at)) if error else None


class Trouble:
    """One part's trouble. While it lasts, the log has a line at its beginning, every 30 s, and at its end."""

    def __init__(self, redis: Redis, key: str, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep it under *key*; the log says *what* does not happen."""
        self._redis = redis
        self._key = key
        self._what = what
        self._clock = clock
        self._note = redis.register_script(NOTE)
        self._began: float | None = None
        self._said_at = 0.0
        self._is_said = False  # that it began
        self._lines = Sampler(clock)
        self._may_be_kept = True  # from an earlier run

    def met(self, cause: str) -> None:
        """Note what was met now: a sentence without secrets, addresses and rows."""
        now = self._clock()
        is_due = self._began is None or now - self._said_at >= REMIND_EVERY_S
        if is_due and self._lines.admit("met"):  # what comes and goes many times a second is a line a second
            self._said_at, self._is_said = now, True
            logger.error(self._what, cause=cause)
        self._began = now if self._began is None else self._began
        self._may_be_kept = True
        with suppress(RedisError):  # then Redis itself is the trouble: the log has it, and `status` meets the same
            self._note(keys=[self._key], args=[cause])

    def over(self) -> None:
        """Note that all is well, if it was not."""
        if self._began is None and not self._may_be_kept:
            return
        if self._began is not None:
            if self._is_said:
                logger.warning("this is over", what=self._what, seconds=round(self._clock() - self._began, 1))
            self._began, self._is_said = None, False
        with suppress(RedisError):  # the next run's first success clears it
            self._redis.delete(self._key)
            self._may_be_kept = False
