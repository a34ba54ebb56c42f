"""The limits on dead letters: the oldest invalid messages make room for new letters, page by page.

A vote that the database refused is a vote: its voter was told that it is recorded, and it can be queued again. So it is
never shortened or dropped. If there are too many of them, the list exceeds its limit, and that is reported.
"""

import hashlib
from logging import ERROR

from redis import Redis

from voting.lua import script
from voting.observability import tell
from voting.queue.dead_letter import REFUSED, shorten
from voting.queue.dead_letters import COUNTED_AT_ONCE, FIRST_PAGE, PAGE_BYTES, DeadLetters, fitting
from voting.queue.queue_view import DEAD, DEAD_ACCOUNT

SHARE = 0.9  # of a limit, down to which room is made: otherwise each further letter would have all of them read

EVICT = script("queue", "evict", "reason_of", "next_step", "remove", "note")
SHORTEN = script("queue", "shorten", "note")
NOTE_LIMITS = script("queue", "note_limits")


class DeadLetterRoom:
    """Keeps the list within its limits. Only claims add letters, so those counted before need not be read again."""

    def __init__(self, redis: Redis, most: int, most_bytes: int) -> None:
        """Allow *most* letters and *most_bytes* in all."""
        self._redis = redis
        self._letters = DeadLetters(redis)
        self._most = most
        self._most_bytes = most_bytes
        self._evict = redis.register_script(EVICT)
        self._shorten = redis.register_script(SHORTEN)
        self._note_limits = redis.register_script(NOTE_LIMITS)
        self._count = self._bytes = 0  # of the letters read so far
        self._due = most, most_bytes  # room is made above these

    def keep(self) -> None:
        """Bring the list back within its limits: shorten the oldest invalid messages first, then drop the oldest.

        Call it when letters were parked. It makes many calls to Redis, each a few milliseconds long.

        Raises:
            redis.RedisError: Redis did not answer or refused; the changes made until then remain.
        """
        self._look()
        if not self._is_due():
            return
        self._count = self._bytes = 0  # an operator may have removed letters: count all again
        self._look()
        if not self._is_due():
            return
        shortened, dropped = self._shorten_oldest(), self._drop_oldest()
        if shortened or dropped:
            tell("made room for dead letters", level=ERROR, shortened_bytes=shortened, dropped=dropped)
        self._due = self._most, self._most_bytes
        if self._is_over():
            # To read all of them for each further vote would take seconds. Wait for a tenth of the limit.
            self._due = (
                round(self._count + self._most * (1 - SHARE)),
                round(self._bytes + self._most_bytes * (1 - SHARE)),
            )
            self._note_limits(keys=[DEAD_ACCOUNT], args=[self._most, self._most_bytes])
            tell("no room for dead letters: they are votes that the database refused", level=ERROR, letters=self._count)

    def is_full(self) -> bool:
        """Whether there is no room, or letters were dropped or shortened since an operator last dropped some.

        The account in Redis decides: the end of this run, or a next one that parks nothing, must not hide it.

        Raises:
            redis.RedisError: Redis did not answer or refused.
        """
        account = self._letters.account()
        if account.most is not None:  # there was no room: check whether there is now
            self._look()
        return account.since_ms is not None or self._is_over()

    def _look(self) -> None:
        """Count the new letters."""
        if self._redis.llen(DEAD) < self._count:
            self._count = self._bytes = 0
        new = self._letters.measure(self._count)
        self._count += new.letters
        self._bytes += new.bytes

    def _is_due(self) -> bool:
        return self._count > self._due[0] or self._bytes > self._due[1]

    def _is_over(self) -> bool:
        return self._count > self._most or self._bytes > self._most_bytes

    def _shorten_oldest(self) -> int:
        """Shorten invalid messages, the oldest first, until there is room; return the bytes saved."""
        place, most, freed = 0, FIRST_PAGE, 0
        while self._bytes > SHARE * self._most_bytes:
            page = self._letters.page(place, most)
            if not page:
                break
            cuts: list[int | str | bytes] = []
            for at, parked in enumerate(page):
                short = None if parked.letter.reason == REFUSED else shorten(parked.raw)
                if short is not None:
                    cuts += [at, hashlib.sha1(parked.raw, usedforsecurity=False).hexdigest(), short]
            if cuts:
                gone = int(self._shorten(keys=[DEAD, DEAD_ACCOUNT], args=[place, place + len(page) - 1, *cuts]))
                self._bytes -= gone
                freed += gone
            place += len(page)
            most = fitting(page)
        return freed

    def _drop_oldest(self) -> int:
        """Drop invalid messages, the oldest first, until there is room; return how many."""
        place, dropped = 0, 0
        while place < self._count:
            letters = max(0, self._count - int(SHARE * self._most))
            size = max(0, self._bytes - int(SHARE * self._most_bytes))
            if not letters and not size:
                break
            limits: list[int | str] = [place, COUNTED_AT_ONCE, PAGE_BYTES, REFUSED, letters, size]
            behind, gone, freed = self._evict(keys=[DEAD, DEAD_ACCOUNT], args=limits)
            if behind == place and not gone:
                break
            place = behind
            self._count -= gone
            self._bytes -= freed
            dropped += gone
        return dropped
