"""What the worker takes from the list next: claimed after the last batch, or read ahead while that one was stored."""

from concurrent.futures import Future, ThreadPoolExecutor
from logging import ERROR

from redis.exceptions import RedisError, ResponseError

from voting.observability import tell
from voting.queue.dead_letter_room import DeadLetterRoom
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.worker.batch import Batch, Sorted, sort_out
from voting.worker.sieve import Sieve


class Intake:
    """Acknowledges a batch and claims the next one, past the messages that the sieve holds."""

    def __init__(self, queue: VoteQueue, settings: Settings, sieve: Sieve, room: DeadLetterRoom) -> None:
        self._queue = queue
        self._settings = settings
        self._sieve = sieve
        self._room = room
        self._beside = ThreadPoolExecutor(1, "look-ahead")  # no thread before it is first used

    def claim(self, done: Batch, token: int) -> Sorted:
        """Acknowledge *done*, and return what comes next: read beside the last transaction, or claimed now.

        What was read ahead is believed where the list begins with it after the acknowledgement: it would not after
        Redis lost its data, and what is stored next would then acknowledge votes that nobody has stored. What is held
        is claimed again and passed over, if it is still there.
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
        return Sorted(messages, *sort_out(messages))

    def read_ahead(self, behind: int) -> Future[Sorted]:
        """Read, in another thread, what comes after the *behind* oldest messages; nothing where Redis is away."""
        return self._beside.submit(self._look_ahead, behind)

    def close(self) -> None:
        self._beside.shutdown()

    def _make_room(self) -> None:
        try:
            self._room.keep()
        except ResponseError as error:  # our user may not, say: too many letters are no reason to stop counting
            tell("no room could be made for dead letters", level=ERROR, error=error)

    def _look_ahead(self, behind: int) -> Sorted:
        try:
            messages = self._queue.look_ahead(
                behind, most=self._settings.batch_votes, most_bytes=self._settings.batch_bytes
            )
        except RedisError:  # the claim that comes next meets the same, and tells
            return Sorted()
        return Sorted(messages, *sort_out(messages))
