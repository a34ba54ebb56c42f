"""The parked messages, for an operator: looked at, queued again, dropped.

There may be a hundred thousand of them, and Redis does one thing at a time: a call looks at a page of letters, at known
places. To search the list for one letter after the other took seconds, in which no vote got in.

Removing walks from the newest to the oldest, since places count from the oldest: what others remove in the meantime
moves letters to places that are still to come, so that none is missed. New letters come behind the place of the start.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from voting.queue.dead_letter import DeadLetter
from voting.queue.lua import script
from voting.queue.queue_view import DEAD, DEAD_ACCOUNT, PAGE, PROCESSING, VOTES
from voting.queue.vote_queue import NotAList

MOST_QUEUED = 20_000  # messages that a requeueing looks through while Redis does nothing else: some 20 ms
PAGE_BYTES = 1024 * 1024  # of one page, about: a letter can have 400 KB
FIRST_PAGE = 16  # letters, as long as their size is unknown
COUNTED_AT_ONCE = 1000

COUNT = script("count", "reason_of", "next_step")
DROP = script("drop", "reason_of", "next_step", "remove")
REQUEUE = script("requeue", "remove")


class TooManyQueued(Exception):
    """More votes are queued than can be looked through at once; the list is short again once it has been drained."""


NOT_REQUEUED: Mapping[bytes, type[Exception]] = {  # by the status that requeue.lua returns
    b"too many queued": TooManyQueued,
    b"not a list": NotAList,
}


@dataclass(frozen=True, slots=True)
class Parked:
    """A dead letter as it lies in the list, which is what names it."""

    raw: bytes
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of letters that were to be queued again; the others wait for their voters' other votes."""

    moved: int
    gone: int  # from their places, since another operation removed older ones: they are to be looked for again


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk from the newest to the oldest letter has come."""

    behind: int  # letters that are still to be looked at, of any reason
    left: int  # of the reason that is looked for

    @property
    def is_end(self) -> bool:
        return self.behind <= 0 or self.left <= 0


@dataclass(frozen=True, slots=True)
class Size:
    """Of letters: how many of each reason, and bytes in all."""

    counts: Counter[str]
    bytes: int

    @property
    def letters(self) -> int:
        return self.counts.total()


@dataclass(frozen=True, slots=True)
class Account:
    """What was done to make room, and the limits if that was not enough; None where it was not done."""

    dropped: int | None
    shortened: int | None
    since_ms: int | None
    most: int | None
    most_bytes: int | None


class DeadLetters:
    """The list that claims park messages in, the oldest letter first."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._count = redis.register_script(COUNT)
        self._requeue = redis.register_script(REQUEUE)
        self._drop = redis.register_script(DROP)

    def read(self, reason: str | None = None, skip: int = 0) -> Iterator[Parked]:
        """All letters, or those of one *reason*, oldest first, but the first *skip*; exact while none is removed."""
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
        """How many letters there are of each reason."""
        return self.measure().counts

    def measure(self, start: int = 0) -> Size:
        """How many letters there are from the place *start* on, of each reason, and their bytes."""
        counts: Counter[str] = Counter()
        size = 0
        for _, page_bytes, page in self._counted(start):
            counts += page
            size += page_bytes
        return Size(counts, size)

    def account(self) -> Account:
        """What the worker dropped or shortened where the list was full, since somebody has dropped letters."""
        names = ("dropped", "shortened", "since", "most", "most_bytes")
        found: list[Any] = self._redis.hmget(DEAD_ACCOUNT, *names)
        return Account(*(int(value) if value and value.isdigit() else None for value in found))

    def place(self, reason: str | None, most: int) -> Place:
        """Where a walk begins that is to meet the oldest letters of *reason* (None: all), and *most* of them."""
        if reason is None:
            length = min(most, self._redis.llen(DEAD))
            return Place(length, length)
        found = behind = 0
        for behind, _, page in self._counted(0, reason, most):  # noqa: B007 - the last one counts
            found += page[reason]
        return Place(behind, found)

    def read_back(self, place: Place, most: int) -> tuple[int, list[Parked]]:
        """The next page of a walk: the place of its first letter, and up to *most* letters, the oldest first."""
        first = max(0, place.behind - most)
        return first, self.page(first, place.behind - first)

    def requeue(self, first: int, page: int, letters: Sequence[tuple[Parked, str]], *, unless_queued: bool) -> Moved:
        """Move *letters*, each with its voter and oldest first, to the tail of `votes`.

        They lie in the *page* letters from the place *first* on. *unless_queued* leaves those whose voter has another
        vote in the list or in process.

        Raises:
            TooManyQueued: so many messages are queued that looking for those votes would hold up Redis.
            NotAList: the key `votes` holds something else. Nothing was moved, as above.
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
        """Delete the letters of *reason* (None: all) in the next page; return how far that came, and how many."""
        first, dropped = self._drop(keys=[DEAD, DEAD_ACCOUNT], args=[place.behind, PAGE, PAGE_BYTES, reason or ""])
        return Place(first, place.left - dropped), dropped

    def page(self, start: int, most: int) -> list[Parked]:
        """Up to *most* letters from the place *start* on."""
        if most <= 0:
            return []
        page: list[Any] = self._redis.lrange(DEAD, start, start + most - 1)
        return [Parked(raw, DeadLetter.decode(raw)) for raw in page]

    def _counted(self, place: int = 0, reason: str = "", most: int = 0) -> Iterator[tuple[int, int, Counter[str]]]:
        """Page by page: the place behind it, its bytes, and how many letters of each reason; to *most* of *reason*."""
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
    """How many letters to read next, by the size of those that were read last."""
    size = sum(len(parked.raw) for parked in page) or 1
    return max(1, min(PAGE, 2 * len(page), PAGE_BYTES * len(page) // size))
