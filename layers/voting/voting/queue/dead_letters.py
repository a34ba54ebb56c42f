"""The parked messages, for an operator: read them, queue them again, drop them.

There may be a hundred thousand of them, and Redis runs one command at a time. So each call handles one page of letters
at known places. A search of the list for each letter would take seconds, during which no vote gets in.

Removal walks from the newest letter to the oldest, since places count from the oldest. If another client removes
letters during the walk, the others move to places that are still ahead, so that none is missed. New letters come after
the place where the walk began.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from voting.lua import script
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import DEAD, DEAD_ACCOUNT, PAGE, PROCESSING, VOTES
from voting.queue.vote_queue import NotAList

MOST_QUEUED = 20_000  # messages that one requeue may search, during which Redis does nothing else: about 20 ms
PAGE_BYTES = 1024 * 1024  # approximate limit of one page: a letter can have 400 KB
FIRST_PAGE = 16  # letters, while their size is unknown
COUNTED_AT_ONCE = 1000

COUNT = script("queue", "count", "reason_of", "next_step")
DROP = script("queue", "drop", "reason_of", "next_step", "remove")
REQUEUE = script("queue", "requeue", "remove")


class TooManyQueued(Exception):
    """More messages are queued than one call may search. Try again when the list has been drained."""


NOT_REQUEUED: Mapping[bytes, type[Exception]] = {  # by the status that requeue.lua returns
    b"too many queued": TooManyQueued,
    b"not a list": NotAList,
}


@dataclass(frozen=True, slots=True)
class Parked:
    """A dead letter and its exact bytes in the list, by which it is identified."""

    raw: bytes
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Moved:
    """The result of a requeue. Letters in neither number stay parked, since their voters have other votes queued."""

    moved: int
    gone: int  # no longer in the page, since another operation removed older letters: search for them again


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk from the newest to the oldest letter has come."""

    behind: int  # letters still to be read, of any reason
    left: int  # letters still to be found, of the wanted reason

    @property
    def is_end(self) -> bool:
        return self.behind <= 0 or self.left <= 0


@dataclass(frozen=True, slots=True)
class Size:
    """The number of letters of each reason, and their total bytes."""

    counts: Counter[str]
    bytes: int

    @property
    def letters(self) -> int:
        return self.counts.total()


@dataclass(frozen=True, slots=True)
class Account:
    """What was done to make room, and the limits if that was not enough; None if it was not done."""

    dropped: int | None
    shortened: int | None
    since_ms: int | None
    most: int | None
    most_bytes: int | None


class DeadLetters:
    """The list in which claims park messages, the oldest letter first."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._count = redis.register_script(COUNT)
        self._requeue = redis.register_script(REQUEUE)
        self._drop = redis.register_script(DROP)

    def read(self, reason: str | None = None, skip: int = 0) -> Iterator[Parked]:
        """Yield all letters, or those of one *reason*, after the *skip* oldest; exact while none is removed."""
        start = skip
        if reason is not None and skip:
            place = self.place(reason, skip)
            if place.left < skip:
                return
            start = place.behind
        most = FIRST_PAGE
        while page := self.page(start, most):
            start += len(page)
            most = fitting(page)
            yield from (parked for parked in page if reason in {None, parked.letter.reason})

    def count(self) -> Counter[str]:
        """Return the number of letters of each reason."""
        return self.measure().counts

    def measure(self, start: int = 0) -> Size:
        """Return the number of letters from the place *start* on, by reason, and their bytes."""
        counts: Counter[str] = Counter()
        size = 0
        for _, page_bytes, page in self._counted(start):
            counts += page
            size += page_bytes
        return Size(counts, size)

    def account(self) -> Account:
        """Return what the worker has dropped or shortened to make room since an operator last dropped letters."""
        names = ("dropped", "shortened", "since", "most", "most_bytes")
        found: list[Any] = self._redis.hmget(DEAD_ACCOUNT, *names)
        return Account(*(int(value) if value and value.isdigit() else None for value in found))

    def place(self, reason: str | None, most: int) -> Place:
        """Return where to begin a walk that meets the *most* oldest letters of *reason* (None: of any)."""
        if reason is None:
            length = min(most, self._redis.llen(DEAD))
            return Place(length, length)
        found = behind = 0
        for behind, _, page in self._counted(0, reason, most):  # noqa: B007 - the last one counts
            found += page[reason]
        return Place(behind, found)

    def read_back(self, place: Place, most: int) -> tuple[int, list[Parked]]:
        """Return the next page of a walk: the place of its first letter, and up to *most* letters, oldest first."""
        first = max(0, place.behind - most)
        return first, self.page(first, place.behind - first)

    def requeue(self, first: int, page: int, letters: Sequence[tuple[Parked, str]], *, unless_queued: bool) -> Moved:
        """Move *letters*, each with its voter and oldest first, to the tail of `votes`.

        They are among the *page* letters from the place *first* on. With *unless_queued*, letters whose voter has
        another vote in the list or in process stay parked.

        Raises:
            TooManyQueued: so many messages are queued that a search for those votes would block Redis. Nothing was
                moved.
            NotAList: the key `votes` holds something else. Nothing was moved.
        """
        arguments: list[bytes | str] = []
        for parked, voter_id in reversed(letters):
            arguments += [parked.raw, parked.letter.message, voter_id]
        most = MOST_QUEUED if unless_queued else 0
        status, moved, gone = self._requeue(
            keys=[VOTES, PROCESSING, DEAD], args=[most, first, first + page - 1, *arguments]
        )
        if status != b"ok":
            raise NOT_REQUEUED[status]
        return Moved(moved, gone)

    def drop(self, place: Place, reason: str | None) -> tuple[Place, int]:
        """Drop the letters of *reason* (None: all) in the next page; return the new place and how many were dropped."""
        first, dropped = self._drop(keys=[DEAD, DEAD_ACCOUNT], args=[place.behind, PAGE, PAGE_BYTES, reason or ""])
        return Place(first, place.left - dropped), dropped

    def page(self, start: int, most: int) -> list[Parked]:
        """Return up to *most* letters from the place *start* on."""
        if most <= 0:
            return []
        page: list[Any] = self._redis.lrange(DEAD, start, start + most - 1)
        return [Parked(raw, DeadLetter.decode(raw)) for raw in page]

    def _counted(self, place: int = 0, reason: str = "", most: int = 0) -> Iterator[tuple[int, int, Counter[str]]]:
        """Yield for each page the place after it, its bytes and its letters by reason; stop at *most* of *reason*."""
        while True:
            behind, size, *pairs = self._count(keys=[DEAD], args=[place, COUNTED_AT_ONCE, PAGE_BYTES, reason, most])
            if behind == place:
                return
            place = behind
            counts = Counter({name.decode(): count for name, count in zip(pairs[::2], pairs[1::2], strict=True)})
            yield place, size, counts
            if reason:
                most -= counts[reason]
                if most <= 0:
                    return


def fitting(page: Sequence[Parked]) -> int:
    """Return how many letters to read next, judging by the size of the last page."""
    size = sum(len(parked.raw) for parked in page) or 1
    return max(1, min(PAGE, 2 * len(page), PAGE_BYTES * len(page) // size))
