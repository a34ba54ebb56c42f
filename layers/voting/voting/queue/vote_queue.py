"""The Redis list of votes that wait to be counted: push, claim, acknowledge, hand back."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import BusyLoadingError, OutOfMemoryError, RedisError, ResponseError

from voting.fence import Superseded
from voting.lua import script
from voting.queue.queue_view import HANDED_BACK, KEYS, PROCESSING, PROGRESS, VOTES, QueueView
from voting.queue.script_connection import ScriptConnection, WaitRefused
from voting.vote import Vote

if TYPE_CHECKING:
    from redis import Redis

    from voting.queue.dead_letter import DeadLetter

PUSH_WITHIN_S = 1.9  # a voter is told "not recorded" after 2 s
ATTEMPTS = 2
REPLICA_MARGIN_S = 0.1  # of the time for an answer, for the answer itself after a wait for a replica

PUSH = script("queue", "push")
PUSH_KEYS = (VOTES, PROGRESS, HANDED_BACK)

CLAIM = script("queue", "claim", "give_back", "oldest")
TOO_LATE = b"too late"  # what push.lua returns in place of a number
LOOK_AHEAD = script("queue", "look_ahead", "oldest")
HAND_BACK = script("queue", "hand_back", "give_back")
STOP_CLAIMS = script("queue", "stop_claims")


class HandedOutAgain(Exception):
    """The batch has been handed out again, so it was not acknowledged and nothing changed. Claim it again."""


class HandedBack(Exception):
    """An operator has handed the list back to another worker. Nothing is handed out until claims are allowed again."""


class QueueUnavailable(Exception):
    """Redis did not take the vote: it is down, loading, read-only or out of memory. Nothing was recorded."""


class PushUnanswered(QueueUnavailable):
    """Redis was sent the vote and did not confirm it: it may or may not be recorded. Pushing it again does no harm."""


class NotAList(Exception):
    """The key `votes` holds something other than a list. It is left alone until an operator has looked at it."""

    def __init__(self) -> None:
        super().__init__("the key `votes` is not a list; it is left alone until an operator has looked at it")


NOT_CLAIMED: Mapping[bytes, type[Exception]] = {  # by the status that claim.lua returns
    b"superseded": Superseded,
    b"handed out again": HandedOutAgain,
    b"handed back": HandedBack,
    b"not a list": NotAList,
}


class VoteQueue(QueueView):
    """Votes that wait to be counted: pushed at the head of one Redis list, claimed from its tail."""

    def __init__(self, redis: "Redis", *, confirm_by_replica: bool = False) -> None:
        """Keep the votes in *redis*; with *confirm_by_replica* a push succeeds only once a replica has the vote.

        Redis replicates asynchronously: without it, a failover loses the votes that the primary alone had.
        """
        super().__init__(redis)
        self._confirm_by_replica = confirm_by_replica
        self._push = ScriptConnection(redis, PUSH)
        self._claim = redis.register_script(CLAIM)
        self._look_ahead = redis.register_script(LOOK_AHEAD)
        self._hand_back = redis.register_script(HAND_BACK)
        self._stop_claims = redis.register_script(STOP_CLAIMS)
        self._answer_within_s: float = redis.get_connection_kwargs()["socket_timeout"]
        self._claims = 0
        self._handed_out = ""  # name of the last claim that returned messages
        self._ahead_us: int | None = None  # how far the clock of Redis is ahead of our monotonic one, at least

    def push(self, vote: Vote) -> float:
        """Queue *vote*; return once Redis has it, with the seconds for which no vote has been counted (0.0: as usual).

        Raises:
            PushUnanswered: within 2 s; the vote may be queued, and will not be queued later.
            QueueUnavailable: within 2 s; the vote is not queued, and will not be queued later.
        """
        give_up_at = time.monotonic() + PUSH_WITHIN_S
        message = vote.encode()
        failures: list[QueueUnavailable] = []
        while True:
            try:
                return self._push_once(message, give_up_at)
            except QueueUnavailable as failure:
                failures.append(failure)
            if len(failures) == ATTEMPTS or time.monotonic() >= give_up_at:
                # Once one attempt may have landed, a later one that did not changes nothing about that.
                raise next((failure for failure in failures if isinstance(failure, PushUnanswered)), failures[-1])

    def _push_once(self, message: bytes, give_up_at: float) -> float:
        """Queue *message* in one attempt; return and raise as `push` does."""
        ahead_us = self._reach_redis()
        may_land_until = min(give_up_at, time.monotonic() + self._answer_within_s)
        deadline_us = int(may_land_until * 1_000_000) + ahead_us
        try:
            answer = self._push_and_confirm(message, deadline_us, may_land_until)
        except WaitRefused as error:
            raise PushUnanswered(f"Redis refuses WAIT: {error}") from error
        except (ResponseError, BusyLoadingError) as error:
            self.reconnect()
            raise QueueUnavailable("Redis refused the vote") from error
        except RedisError as error:
            # The network may still deliver what a broken connection carried. Until the deadline, it might land after
            # the next vote of this voter.
            time.sleep(max(0.0, may_land_until - time.monotonic()))
            self.reconnect()
            raise PushUnanswered("Redis did not answer") from error
        if answer == TOO_LATE:  # our clock stood still (a frozen environment), or the clock of Redis was set
            self._ahead_us = None
            raise QueueUnavailable("the vote reached Redis after its deadline")
        return float(answer) / 1000

    def _push_and_confirm(self, message: bytes, deadline_us: int, confirm_until: float) -> Any:
        """Run push.lua and return its answer, once a replica has the vote too if one must.

        Raises:
            PushUnanswered: no replica had it in time. The vote is queued, unless this primary is replaced.
        """
        if not self._confirm_by_replica:
            return self._push.call(PUSH_KEYS, message, deadline_us)
        within_ms = max(1, int((confirm_until - REPLICA_MARGIN_S - time.monotonic()) * 1000))
        answer, replicas = self._push.call_replicated(PUSH_KEYS, message, deadline_us, within_ms=within_ms)
        if replicas or answer == TOO_LATE:
            return answer
        self.reconnect()  # to the new primary, if this one has been replaced
        raise PushUnanswered("no replica has confirmed the vote")

    def _reach_redis(self) -> int:
        """Open the connection for a push, and return how far the clock of Redis is ahead of ours, in microseconds.

        Raises:
            QueueUnavailable: Redis cannot be reached; nothing was sent.
        """
        try:
            self._push.open()
            return self._clock_ahead_us()
        except RedisError as error:
            self.reconnect()
            raise QueueUnavailable("Redis cannot be reached") from error

    def reconnect(self) -> None:
        """Close all connections, so that the next use opens new ones: they may lead to a former primary, or nowhere."""
        self._redis.connection_pool.disconnect()
        self._ahead_us = None  # a thaw breaks connections too, and a new primary has a clock of its own

    def claim(
        self, token: int, *, most: int, most_bytes: int, acknowledge: int = 0, dead: "Sequence[DeadLetter]" = ()
    ) -> list[bytes]:
        """Acknowledge the last batch, park its *dead* letters, and return the oldest messages, oldest first.

        The messages stay in Redis until they are acknowledged. After a call without an answer, claim again with nothing
        to acknowledge.

        Raises:
            Superseded: a newer run has claimed; nothing was changed.
            HandedOutAgain: the batch to acknowledge is with a later claim, or Redis has lost its data since; nothing
                was changed. Claim again with nothing to acknowledge.
            HandedBack: the batch is acknowledged; nothing is in process any more.
            NotAList: the batch is acknowledged; `votes` is untouched.
            redis.RedisError: Redis did not answer or refused.
        """
        self._claims += 1
        name = f"{token}.{self._claims}"
        letters = (letter.encode() for letter in dead)
        answer: list[Any] = self._claim(
            keys=KEYS, args=[token, acknowledge, most, most_bytes, name, self._handed_out, *letters]
        )
        status = answer.pop(0)
        if status != b"ok":
            raise NOT_CLAIMED[status]
        if answer:
            self._handed_out = name
        return answer

    def look_ahead(self, behind: int, *, most: int, most_bytes: int) -> list[bytes]:
        """Return the messages in process after the *behind* oldest, which are claimed; oldest first. Changes nothing.

        Store them only after a claim that acknowledged the messages before them. That claim is refused if another run
        or a hand-back came between, and nothing else takes from the old end.

        Raises:
            redis.RedisError: Redis did not answer or refused.
        """
        answer: list[Any] = self._look_ahead(keys=KEYS, args=[behind, most, most_bytes])
        return answer[1:]

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message; move it into the batch in process, in order, and return whether there was one.

        While the memory of Redis is full, nothing is moved. *timeout_s* must be below the client's socket timeout.

        Raises:
            redis.RedisError: Redis did not answer, or `votes` is not a list.
        """
        try:
            return self._redis.blmove(VOTES, PROCESSING, timeout_s, "RIGHT", "LEFT") is not None  # type: ignore[arg-type] # Redis takes fractions
        except OutOfMemoryError:  # Redis refuses to move messages then; a claim passes, and takes what has come
            time.sleep(timeout_s)
            return False

    def stop_claims(self) -> bool:
        """Hand out nothing from now on; return whether claims were allowed until now."""
        return bool(self._stop_claims(keys=KEYS))

    def allow_claims(self) -> bool:
        """Hand out messages again; return whether claims were stopped."""
        was_stopped = bool(self._redis.delete(HANDED_BACK))
        if was_stopped:
            self._redis.delete(PROGRESS)  # the delay of another worker is not ours
        return was_stopped

    def give_back(self, token: int) -> int:
        """Return the batch in process to the tail of `votes`, in order, and fence off every run up to *token*.

        Returns the number of messages that were returned. Claims must have been stopped.
        """
        return int(self._hand_back(keys=KEYS, args=[token]))

    def _clock_ahead_us(self) -> int:
        """How far the clock of Redis is ahead of ours; compared if that is not known."""
        if self._ahead_us is None:
            seconds, microseconds = self._redis.time()
            # The answer is a little old by now, so deadlines err to the early side only.
            self._ahead_us = seconds * 1_000_000 + microseconds - int(time.monotonic() * 1_000_000)
        return self._ahead_us
