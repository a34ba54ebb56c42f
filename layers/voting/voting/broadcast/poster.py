"""Posts to WebSocket connections, and closes them, through API Gateway's management API (`…/@connections/{id}`).

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
boto3 posts some hundred messages a second and core; this keeps hundreds of requests in flight on one.
"""

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from voting.broadcast.feed import UNLIMITED, Feed, Limits, OneForAll
from voting.broadcast.http_connection import Endpoint, Line, Lines
from voting.broadcast.sigv4 import Credentials, SignedRequests

IN_FLIGHT = 384  # answers waited for, those of slow connections aside: at 20 ms an answer, 19,000 posts a second
MOST_LINES = 900  # Lambda allows a process 1,024 open files
OPEN_AT_ONCE = 16  # lines, when there was nothing else to do for IDLE_S: a TLS handshake costs as much as 30 posts
IDLE_S = 0.001  # what answers sooner needs no more lines
SLOW_AFTER_S = 0.2  # who has not answered by then is waited for beside IN_FLIGHT
ANSWER_WITHIN_S = 3.0
LOOK_EVERY_S = 0.05  # for the slow and the hanging: cheaper than a timer for each post
BACKOFF_S = 0.05
ATTEMPTS = 4  # at a post that meets a broken line or an error of the gateway's
# At a post that is throttled while others pass: API Gateway answers 429 also where a client does not read. A connection
# that is throttled again and again holds no place among IN_FLIGHT: some hundred of them would hold up all others.
THROTTLED_ATTEMPTS = 10  # which take 6 s on the average
HOLDING_ATTEMPTS = 3
LONGEST_BACKOFF_S = 2.0
HANGING, BROKEN = -1, 0  # in place of a status


class Forbidden(Exception):
    """API Gateway refuses our signature or our role: no post will pass until an operator mends it."""


@dataclass(slots=True)
class Outcome:
    """What became of each connection that was posted to."""

    sent: int = 0
    gone: list[str] = field(default_factory=list)  # 410: closed, to be forgotten
    failed: list[str] = field(default_factory=list)  # no answer, or an error: not known to have it
    throttled: int = 0  # answers 429, each of which was tried again


class Poster:
    """Posts frames, over lines that are kept between invocations."""

    def __init__(self, websocket_url: str, region: str, credentials: Credentials) -> None:
        """Post to the connections of *websocket_url* (ws:// or wss://, the stage included)."""
        url = urlsplit(websocket_url)
        secure = url.scheme == "wss"
        self._authority = url.netloc.rpartition("@")[2]
        self._folder = f"{url.path.rstrip('/')}/@connections"
        self._region = region
        self._credentials = credentials
        self._lines = Lines(Endpoint(url.hostname or "", url.port or (443 if secure else 80), secure=secure))

    def post(self, connection_ids: Iterable[str], frame: bytes, within_s: float = UNLIMITED.within_s) -> Outcome:
        """Post *frame* to each of *connection_ids*; a slow or hanging one delays no other.

        After *within_s* no attempt begins any more.

        Raises:
            Forbidden: the management API answered 403.
        """
        return self.serve(OneForAll(connection_ids, frame), Limits(within_s=within_s))

    def disconnect(self, connection_ids: Iterable[str], within_s: float = UNLIMITED.within_s) -> Outcome:
        """Close each of *connection_ids*; those that were closed already are in `gone`, the others in `sent`.

        Raises:
            Forbidden: the management API answered 403.
        """
        return self._run("DELETE", OneForAll(connection_ids, b""), Limits(within_s=within_s))

    def serve(self, feed: Feed, limits: Limits = UNLIMITED) -> Outcome:
        """Post what *feed* hands out, until it has no more or a limit is reached; a slow connection delays no other.

        Who could not be posted to in time has failed, and is not settled with the feed.

        Raises:
            Forbidden: the management API answered 403.
        """
        return self._run("POST", feed, limits)

    def _run(self, method: str, feed: Feed, limits: Limits) -> Outcome:
        round_ = _Round(partial(self._sign, method), self._lines, feed, limits)
        try:
            round_.run()
        finally:
            self._lines.drop_busy()
        if round_.is_forbidden:
            raise Forbidden(f"{method} https://{self._authority}{self._folder}/… answers 403")
        return round_.outcome

    def _sign(self, method: str, body: bytes) -> SignedRequests:
        """The requests that carry *body*, good for minutes."""
        return SignedRequests(
            self._credentials,
            self._region,
            "execute-api",
            host=self._authority,
            folder=self._folder,
            body=body,
            method=method,
        )

    def close(self) -> None:
        """Close the kept lines."""
        self._lines.close()


class _Round:
    """One feed on its way."""

    def __init__(self, sign: Callable[[bytes], SignedRequests], lines: Lines, feed: Feed, limits: Limits) -> None:
        self.outcome = Outcome()
        self.is_forbidden = False
        self._sign = sign
        self._lines = lines
        self._feed = feed
        self._limits = limits
        self._frame: bytes | None = None
        self._has_ended = False  # the feed
        self._again: deque[str] = deque()  # to be posted to once more
        self._resting: list[tuple[float, str, bool]] = []  # a heap: until when, who, and whether it holds a place
        self._holding = 0  # of those
        self._attempts: dict[str, int] = {}  # of those that did not get the frame at once
        self._in_flight = 0  # on lines, without those on slow ones
        self._slow = 0
        self._begun = 0
        self._started_at = time.monotonic()
        self._tick(self._started_at)
        self._look_at = self._now + LOOK_EVERY_S

    def run(self) -> None:
        """Return once everybody that the feed handed out is in the outcome."""
        select, serve = self._lines.selector.select, self._serve
        self._lines.drop_closed()
        self._employ(opening=OPEN_AT_ONCE)
        while self._in_flight or self._slow or (self._goes_on and self._has_more()):
            ready = select(self._pause_s())
            self._tick(time.monotonic())
            for key, _ in ready:
                serve(key.data)
            while self._resting and self._resting[0][0] <= self._now:
                self._wake()
            if self._now >= self._look_at:
                self._look()
            self._employ(opening=0 if ready else OPEN_AT_ONCE)
        self.outcome.failed += self._again
        self.outcome.failed += (connection_id for _, connection_id, _ in self._resting)

    def _tick(self, now: float) -> None:
        self._now = now
        elapsed_s = now - self._started_at
        self._goes_on = elapsed_s < self._limits.within_s and not self.is_forbidden
        self._allowed = self._limits.allowed(elapsed_s)

    def _has_more(self) -> bool:
        return bool(self._again or self._resting or not self._has_ended)

    def _has_room(self) -> bool:
        """Tell whether one more may be posted to; the throttled hold their places, which slows down the whole round."""
        return self._in_flight + self._holding < IN_FLIGHT

    def _pause_s(self) -> float:
        until = self._look_at
        if self._resting:
            until = min(until, self._resting[0][0])
        if self._goes_on and (self._again or not self._has_ended) and self._has_room():
            if self._begun >= self._allowed:
                until = min(until, self._started_at + self._limits.due_s(self._begun + 1))
            elif len(self._lines) < MOST_LINES:
                until = min(until, self._now + IDLE_S)
        return max(0.0, until - self._now)

    def _next(self) -> str | None:
        """Whom to post to now, if anybody."""
        if not self._goes_on or self._begun >= self._allowed:
            return None
        if self._again:
            connection_id = self._again.popleft()
        elif self._has_ended:
            return None
        elif (fed := self._feed.next()) is None:
            self._has_ended = True
            return None
        else:
            connection_id, frame = fed
            if frame is not self._frame:
                self._frame, self._posts = frame, self._sign(frame)
        self._begun += 1
        return connection_id

    def _employ(self, *, opening: int) -> None:
        """Give work to idle lines, and to as many new ones as *opening* says."""
        lines = self._lines
        while self._has_room() and (lines.idle or (opening and len(lines) < MOST_LINES)):
            connection_id = self._next()
            if connection_id is None:
                return
            if lines.idle:
                line = lines.idle.pop()
            else:
                opening -= 1
                try:
                    line = lines.open()
                except OSError:
                    self._settle(connection_id, BROKEN)
                    continue
            self._in_flight += 1
            self._ask(line, connection_id)

    def _ask(self, line: Line, connection_id: str) -> None:
        line.connection_id = connection_id
        line.asked_at = self._now
        try:
            line.ask(self._posts.to(connection_id))
        except OSError:
            self._release(line, BROKEN)

    def _serve(self, line: Line) -> None:
        try:
            status = line.proceed()
        except OSError:
            status = BROKEN
        if status is None:
            return
        connection_id = line.connection_id
        if status == 200 and connection_id and not (line.is_slow or line.is_closing) and (next_ := self._next()):
            self._settle(connection_id, status)
            self._ask(line, next_)
        else:
            self._release(line, status)

    def _release(self, line: Line, status: int) -> None:
        """Note what became of the connection that *line* posted to, and have the line idle or closed."""
        connection_id, line.connection_id = line.connection_id, None
        if connection_id is None:  # it idled, and the other side closed it
            self._lines.idle.remove(line)
        elif line.is_slow:
            self._slow -= 1
            line.is_slow = False
        else:
            self._in_flight -= 1
        if status in {HANGING, BROKEN} or line.is_closing:
            self._lines.drop(line)
        else:
            self._lines.idle.append(line)
        if connection_id is None:
            return
        if status == BROKEN and line.is_doubtful:  # no attempt: it was closed before we asked
            self._again.appendleft(connection_id)
        else:
            self._settle(connection_id, status)

    def _settle(self, connection_id: str, status: int) -> None:
        if status == 200 and not self._attempts:
            self.outcome.sent += 1
            self._feed.settle(connection_id)
            return
        attempts = self._attempts.pop(connection_id, 0)
        if status == 403:
            self.is_forbidden = True
            self._goes_on = False
        elif status == 429 and (attempts + 1 < THROTTLED_ATTEMPTS or not self.outcome.sent):
            self.outcome.throttled += 1
            self._rest(connection_id, attempts)
        elif (status == BROKEN or status >= 500) and attempts + 1 < ATTEMPTS:
            self._rest(connection_id, attempts)
        elif 200 <= status < 300:
            self.outcome.sent += 1
            self._feed.settle(connection_id)
        elif status == 410:
            self.outcome.gone.append(connection_id)
            self._feed.settle(connection_id)
        else:
            self.outcome.failed.append(connection_id)
            self._feed.settle(connection_id, is_reached=False)

    def _rest(self, connection_id: str, attempts: int) -> None:
        """Have it tried once more after a while (full jitter)."""
        self._attempts[connection_id] = attempts + 1
        rest_s = random.uniform(0, min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** min(attempts, 10)))  # noqa: S311
        holds = attempts < HOLDING_ATTEMPTS
        self._holding += holds
        heapq.heappush(self._resting, (self._now + rest_s, connection_id, holds))

    def _wake(self) -> None:
        """Have the one that has rested longest tried once more."""
        _, connection_id, holds = heapq.heappop(self._resting)
        self._holding -= holds
        self._again.append(connection_id)

    def _look(self) -> None:
        """Give up on the hanging, and stop counting the slow."""
        self._look_at = self._now + LOOK_EVERY_S
        out = self._in_flight + self._slow
        is_last = not (self._has_more() and self._goes_on) and out <= self._begun / 2
        patience_s = min(ANSWER_WITHIN_S, self._limits.linger_s) if is_last else ANSWER_WITHIN_S
        for line in self._lines.busy():
            age_s = self._now - line.asked_at
            if age_s >= patience_s:
                line.avoid()
                self._release(line, HANGING)
            elif age_s >= SLOW_AFTER_S and not line.is_slow:
                line.is_slow = True
                self._in_flight -= 1
                self._slow += 1
