"""Posts to WebSocket connections through API Gateway's management API (`POST …/@connections/{id}`).

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
boto3 posts some hundred messages a second and core; this keeps hundreds of requests in flight on one.
"""

import heapq
import random
import selectors
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from voting.line import Endpoint, Line
from voting.signing import Credentials, SignedPosts

IN_FLIGHT = 384  # answers waited for, those of slow connections aside: at 20 ms an answer, 19,000 posts a second
MOST_LINES = 900  # Lambda allows a process 1,024 open files
OPEN_AT_ONCE = 16  # lines, each time that there is nothing else to do: a TLS handshake costs as much as 20 posts
SLOW_AFTER_S = 0.2  # who has not answered by then is waited for beside IN_FLIGHT
ANSWER_WITHIN_S = 3.0
LOOK_EVERY_S = 0.05  # for the slow and the hanging: cheaper than a timer for each post
GIVE_UP_AFTER_S = 20.0
BACKOFF_S = 0.05
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
        self._lines = _Lines(Endpoint(url.hostname or "", url.port or (443 if secure else 80), secure=secure))

    def post(self, connection_ids: Iterable[str], frame: bytes) -> Outcome:
        """Post *frame* to each of *connection_ids*; a slow or hanging one delays no other.

        Raises:
            Forbidden: the management API answered 403.
        """
        posts = SignedPosts(
            self._credentials, self._region, "execute-api", host=self._authority, folder=self._folder, body=frame
        )
        round_ = _Round(self._lines, posts, connection_ids)
        try:
            round_.run()
        finally:
            self._lines.drop_busy()
        if round_.is_forbidden:
            raise Forbidden(f"POST https://{self._authority}{self._folder}/… answers 403")
        return round_.outcome

    def close(self) -> None:
        """Close the kept lines."""
        self._lines.close()


class _Lines:
    """The open lines, those in use and those that idle."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.selector = selectors.DefaultSelector()
        self.idle: list[Line] = []
        self._endpoint = endpoint
        self._all: set[Line] = set()

    def __len__(self) -> int:
        return len(self._all)

    def busy(self) -> list[Line]:
        return [line for line in self._all if line.connection_id is not None]

    def open(self) -> Line:
        line = Line(self._endpoint, self.selector)
        self._all.add(line)
        return line

    def drop(self, line: Line) -> None:
        line.close()
        self._all.remove(line)

    def drop_busy(self) -> None:
        """Close lines whose answer is still to come: the next request would get it for its own."""
        for line in self.busy():
            self.drop(line)

    def drop_closed(self) -> None:
        """Close idle lines that the other side has closed, and doubt the rest."""
        for key, _ in self.selector.select(0):
            line: Line = key.data
            try:
                line.proceed()
            except OSError:
                self.idle.remove(line)
                self.drop(line)
        for line in self.idle:
            line.is_doubtful = True

    def close(self) -> None:
        self.idle.clear()
        for line in tuple(self._all):
            self.drop(line)
        self.selector.close()


class _Round:
    """One frame on its way to many connections."""

    def __init__(self, lines: _Lines, posts: SignedPosts, connection_ids: Iterable[str]) -> None:
        self.outcome = Outcome()
        self.is_forbidden = False
        self._lines = lines
        self._posts = posts
        self._waiting = deque(connection_ids)
        self._resting: list[tuple[float, str]] = []  # a heap: until when, who was throttled
        self._attempts: dict[str, int] = {}  # of those that were not sent the frame at once
        self._in_flight = 0  # on lines, without those on slow ones
        self._slow = 0
        self._now = time.monotonic()
        self._ends_at = self._now + GIVE_UP_AFTER_S
        self._look_at = self._now + LOOK_EVERY_S

    def run(self) -> None:
        """Return once every connection is in the outcome."""
        select, serve = self._lines.selector.select, self._serve
        self._lines.drop_closed()
        self._employ(opening=OPEN_AT_ONCE)
        while self._in_flight or self._slow or ((self._waiting or self._resting) and self._goes_on()):
            ready = select(self._pause_s())
            self._now = time.monotonic()
            for key, _ in ready:
                serve(key.data)
            self._wake()
            if self._now >= self._look_at:
                self._look()
            self._employ(opening=0 if ready else OPEN_AT_ONCE)
        self.outcome.failed += self._waiting
        self.outcome.failed += (connection_id for _, connection_id in self._resting)

    def _goes_on(self) -> bool:
        return self._now < self._ends_at and not self.is_forbidden

    def _has_room(self) -> bool:
        """Tell whether one more may be posted to; the throttled hold their places, which slows down the whole round."""
        return self._in_flight + len(self._resting) < IN_FLIGHT

    def _pause_s(self) -> float:
        if self._waiting and self._has_room() and len(self._lines) < MOST_LINES and self._goes_on():
            return 0.0  # if nothing is ready now, more lines are of use
        until = min(self._look_at, self._resting[0][0]) if self._resting else self._look_at
        return max(0.0, until - self._now)

    def _employ(self, *, opening: int) -> None:
        """Give work to idle lines, and to as many new ones as *opening* says."""
        while self._waiting and self._has_room() and self._goes_on():
            if self._lines.idle:
                line = self._lines.idle.pop()
            elif opening and len(self._lines) < MOST_LINES:
                opening -= 1
                try:
                    line = self._lines.open()
                except OSError:
                    self._settle(self._waiting.popleft(), BROKEN)
                    continue
            else:
                return
            self._in_flight += 1
            self._ask(line)

    def _ask(self, line: Line) -> None:
        line.connection_id = connection_id = self._waiting.popleft()
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
        if status == 200 and self._waiting and not (line.is_slow or line.is_closing) and self._goes_on():
            self.outcome.sent += 1
            self._ask(line)
        elif status is not None:
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
            self._waiting.appendleft(connection_id)
        else:
            self._settle(connection_id, status)

    def _settle(self, connection_id: str, status: int) -> None:
        attempts = self._attempts.get(connection_id, 0)
        if 200 <= status < 300:
            self.outcome.sent += 1
        elif status == 410:
            self.outcome.gone.append(connection_id)
        elif status == 403:
            self.is_forbidden = True
        elif status == 429:
            self.outcome.throttled += 1
            self._attempts[connection_id] = attempts + 1
            rest_s = random.uniform(0, min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** min(attempts, 10)))  # noqa: S311
            heapq.heappush(self._resting, (self._now + rest_s, connection_id))
        elif status != HANGING and attempts == 0:
            self._attempts[connection_id] = 1
            self._waiting.append(connection_id)
        else:
            self.outcome.failed.append(connection_id)

    def _wake(self) -> None:
        while self._resting and self._resting[0][0] <= self._now:
            self._waiting.append(heapq.heappop(self._resting)[1])

    def _look(self) -> None:
        """Give up on the hanging, and stop counting the slow."""
        self._look_at = self._now + LOOK_EVERY_S
        for line in self._lines.busy():
            age_s = self._now - line.asked_at
            if age_s >= ANSWER_WITHIN_S:
                line.avoid()
                self._release(line, HANGING)
            elif age_s >= SLOW_AFTER_S and not line.is_slow:
                line.is_slow = True
                self._in_flight -= 1
                self._slow += 1
