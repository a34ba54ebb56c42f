"""What keeps a part of the worker from its work: logged when it begins and ends, and kept in Redis for `status`."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from voting.log_sampling import Sampler
from voting.lua import script
from voting.observability import logger

REMIND_EVERY_S = 30.0

NOTE = script("queue", "note_trouble")


@dataclass(frozen=True, slots=True)
class Record:
    """The last error of a part of the worker. Times are in ms since the epoch by the clock of Redis."""

    error: str
    since_ms: int  # when the trouble began, perhaps with another error
    at_ms: int  # when the error was last met

    @property
    def since(self) -> str:
        """For people, in UTC."""
        return f"{datetime.fromtimestamp(self.since_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"

    def document(self) -> Mapping[str, object]:
        return {"error": self.error, "since": self.since_ms, "at": self.at_ms}


def read_trouble(redis: Redis, key: str) -> Record | None:
    """Return the trouble kept under *key*; None if all is well."""
    fields: list[Any] = redis.hmget(key, "error", "since", "at")
    error, since, at = fields
    return Record(error.decode(), int(since), int(at)) if error else None


class Trouble:
    """The trouble of one part. The log has a line when it begins, every 30 s while it lasts, and when it ends."""

    def __init__(self, redis: Redis, key: str, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep it under *key*; the log says *what* fails."""
        self._redis = redis
        self._key = key
        self._what = what
        self._clock = clock
        self._note = redis.register_script(NOTE)
        self._began: float | None = None
        self._said_at = 0.0
        self._is_said = False  # whether its beginning was logged
        self._lines = Sampler(clock)
        self._may_be_kept = True  # by an earlier run

    def met(self, cause: str) -> None:
        """Note the *cause* that was met now: a sentence without secrets, addresses or rows."""
        now = self._clock()
        is_due = self._began is None or now - self._said_at >= REMIND_EVERY_S
        if is_due and self._lines.admit(
            "met"
        ):  # trouble that comes and goes many times a second gets one line per second
            self._said_at, self._is_said = now, True
            logger.error(self._what, cause=cause)
        self._began = now if self._began is None else self._began
        self._may_be_kept = True
        with suppress(RedisError):  # then Redis itself is the trouble: the log has it, and `status` meets it too
            self._note(keys=[self._key], args=[cause])

    def over(self) -> None:
        """Note that the trouble, if any, has ended."""
        if self._began is None and not self._may_be_kept:
            return
        if self._began is not None:
            if self._is_said:
                logger.warning("this is over", what=self._what, seconds=round(self._clock() - self._began, 1))
            self._began, self._is_said = None, False
        with suppress(RedisError):  # the next run's first success clears it
            self._redis.delete(self._key)
            self._may_be_kept = False
