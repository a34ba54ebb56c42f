"""What the worker takes from the list next: claimed after the last batch, or read ahead while that one was stored."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from logging import ERROR
from typing import Self

from redis.exceptions import RedisError, ResponseError

from voting.observability import tell
from voting.queue.dead_letter_room import DeadLetterRoom
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.worker.batch import ParsedMessages, PendingAck
from voting.worker.sieve import Sieve


class ReadAhead:
    """Messages that are read in another thread while a batch is stored. Leaving the block waits for the thread."""

    def __init__(self, read: Callable[[], Future[ParsedMessages]] | None) -> None:
        """Begin to *read* when `start` is called; read nothing without it."""
        self._read = read
        self._future: Future[ParsedMessages] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._future is not None:
            wait([self._future])

    def start(self) -> None:
        """Begin to read; return at once."""
        if self._read is not None:
            self._future = self._read()

    def messages(self) -> ParsedMessages:
        """Return what was read; nothing if `start` was not called."""
        return ParsedMessages() if self._future is None else self._future.result()


class Intake:
    """Acknowledges a batch and claims the next one, after the messages that the sieve holds."""

    def __init__(self, queue: VoteQueue, settings: Settings, sieve: Sieve, room: DeadLetterRoom) -> None:
        self._queue = queue
        self._settings = settings
        self._choices = frozenset(settings.question.labels)
        self._sieve = sieve
        self._room = room
        self._reader = ThreadPoolExecutor(1, "look-ahead")  # it has no thread before the first use

    def claim(self, done: PendingAck, token: int) -> ParsedMessages:
        """Acknowledge *done*, and return what comes next: read ahead during the last transaction, or claimed now.

        What was read ahead is used only if the list begins with it after the acknowledgement. It does not once Redis
        has lost its data, and the next batch would then acknowledge votes that no database has stored. Messages that
        the sieve holds are claimed again and passed over, if they are still there.
        """
        ahead = done.ahead
        held = [letter.message for letter in self._sieve.held]
        most = len(held) + self._sieve.most
        most_bytes = sum(map(len, held)) + self._settings.batch_bytes
        messages = self._queue.claim(
            token,
            most=1 if ahead.messages else most,
            most_bytes=most_bytes,
            acknowledge=done.size,
            dead=done.dead,
        )
        if done.dead:
            self._make_room()
        if ahead.messages:
            if messages == ahead.messages[:1]:
                return ahead
            messages = self._queue.claim(token, most=most, most_bytes=most_bytes)
        if messages[: len(held)] == held:
            messages = messages[len(held) :]
        else:
            self._sieve.drop()
        return ParsedMessages.of(messages, self._choices)

    def is_last(self, batch: ParsedMessages) -> bool:
        """Whether no message waited behind *batch* when it was claimed."""
        return len(batch.messages) < self._sieve.most

    def ahead_of(self, batch: ParsedMessages) -> ReadAhead:
        """Return what reads the messages after *batch*; nothing if there are none, or while the sieve is hunting."""
        if self.is_last(batch) or self._sieve.is_hunting:
            return ReadAhead(None)
        return ReadAhead(lambda: self._reader.submit(self._look_ahead, len(batch.messages)))

    def close(self) -> None:
        self._reader.shutdown()

    def _make_room(self) -> None:
        try:
            self._room.keep()
        except ResponseError as error:  # our user may lack the right: too many letters must not stop the counting
            tell("no room could be made for dead letters", level=ERROR, error=error)

    def _look_ahead(self, behind: int) -> ParsedMessages:
        try:
            messages = self._queue.look_ahead(
                behind, most=self._settings.batch_votes, most_bytes=self._settings.batch_bytes
            )
        except RedisError:  # the next claim meets the same error, and reports it
            return ParsedMessages()
        return ParsedMessages.of(messages, self._choices)
