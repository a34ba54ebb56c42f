"""The loop that keeps hundreds of posts in flight on one thread."""

import time
from collections.abc import Callable

from voting.broadcast.http_connection import ConnectionPool, HttpConnection
from voting.broadcast.post_schedule import BROKEN, HANGING, PostSchedule
from voting.broadcast.sigv4 import SignedRequests

IN_FLIGHT = 384  # requests at a time, without the slow ones: at 20 ms per response, 19,000 posts a second
MOST_CONNECTIONS = 900  # Lambda allows a process 1,024 open files; some are left to try further addresses
OPEN_AT_ONCE = 16  # connections, after IDLE_S without a response: a TLS handshake costs as much as 30 posts
IDLE_S = 0.001  # with responses faster than this, more connections would not help
SLOW_AFTER_S = 0.2  # after this, a request no longer counts against IN_FLIGHT
ANSWER_WITHIN_S = 3.0  # after this, a request has failed
CHECK_EVERY_S = 0.05  # for slow and hanging requests, and addresses to try: cheaper than one timer per post


class PostingLoop:
    """Makes the posts of one schedule over pooled connections, each of which carries one request at a time."""

    def __init__(
        self,
        schedule: PostSchedule,
        pool: ConnectionPool,
        sign: Callable[[bytes], SignedRequests],
        linger_s: float,
    ) -> None:
        """Post over *pool*; *sign* makes the requests for a frame.

        Once the schedule is over, each response that is still awaited gets *linger_s*, unless most of them are.
        """
        self._schedule = schedule
        self._pool = pool
        self._sign = sign
        self._linger_s = linger_s
        self._frame: bytes | None = None  # that `_requests` carry
        self._in_flight = 0  # requests, without the slow ones
        self._slow = 0
        self._now = time.monotonic()
        self._check_at = self._now + CHECK_EVERY_S

    def run(self) -> None:
        """Return when the schedule is over and no response is awaited any more."""
        select, proceed, schedule = self._pool.selector.select, self._proceed, self._schedule
        self._pool.drop_closed()
        self._start_posts(may_open=OPEN_AT_ONCE)
        while self._in_flight or self._slow or not schedule.is_over():
            ready = select(self._pause_s())
            self._now = time.monotonic()
            schedule.advance(self._now)
            for key, _ in ready:
                proceed(key.data)
            if self._now >= self._check_at:
                self._check_ages()
            self._start_posts(may_open=0 if ready else OPEN_AT_ONCE)

    def _has_room(self) -> bool:
        """Throttled connections that hold their place slow down the whole loop, as a throttle should."""
        return self._in_flight + self._schedule.holding < IN_FLIGHT

    def _pause_s(self) -> float:
        """Return how long to wait for a response before something else is due."""
        until = min(self._check_at, self._schedule.retry_at())
        if self._has_room():
            due_at = self._schedule.due_at()
            if due_at > self._now:
                until = min(until, due_at)
            elif len(self._pool) < MOST_CONNECTIONS:  # else it has to wait for a connection
                until = min(until, self._now + IDLE_S)
        return max(0.0, until - self._now)

    def _start_posts(self, *, may_open: int) -> None:
        """Start the posts that are due, on idle connections and on up to *may_open* new ones."""
        pool = self._pool
        while self._has_room() and (pool.idle or (may_open and len(pool) < MOST_CONNECTIONS)):
            recipient = self._schedule.next()
            if recipient is None:
                return
            may_open -= not pool.idle
            self._start_post(recipient)

    def _start_post(self, recipient: str) -> None:
        try:
            connection = self._pool.idle.pop() if self._pool.idle else self._pool.open()
        except OSError:
            self._schedule.settle(recipient, BROKEN)
            return
        self._in_flight += 1
        self._send(connection, recipient)

    def _send(self, connection: HttpConnection, recipient: str) -> None:
        if self._schedule.frame is not self._frame:
            self._frame = self._schedule.frame
            self._requests = self._sign(self._frame)
        connection.recipient = recipient
        connection.sent_at = self._now
        try:
            connection.send(self._requests.to(recipient))
        except OSError:
            self._release(connection, BROKEN)

    def _proceed(self, connection: HttpConnection) -> None:
        try:
            status = connection.proceed()
        except OSError:
            connection.avoid()
            status = BROKEN
        if status is None:
            return
        recipient = connection.recipient
        is_reusable = status == 200 and not (connection.is_slow or connection.is_closing)
        if is_reusable and recipient and (following := self._schedule.next()):
            self._schedule.settle(recipient, status)
            self._send(connection, following)
        else:
            self._release(connection, status)

    def _release(self, connection: HttpConnection, status: int) -> None:
        """Settle the request of *connection*, and keep the connection for the next one if it still works."""
        recipient, connection.recipient = connection.recipient, None
        if recipient is None:  # it was idle, and the server has closed it
            self._pool.idle.remove(connection)
            self._pool.drop(connection)
            return
        self._discount(connection)
        if status in {HANGING, BROKEN} or connection.is_closing:
            self._pool.drop(connection)
        else:
            self._pool.idle.append(connection)
        if status == BROKEN and connection.is_doubtful:  # closed before the request was sent: not an attempt
            self._schedule.retry_now(recipient)
        else:
            self._schedule.settle(recipient, status)

    def _discount(self, connection: HttpConnection) -> None:
        if connection.is_slow:
            self._slow -= 1
            connection.is_slow = False
        else:
            self._in_flight -= 1

    def _check_ages(self) -> None:
        """Give up on requests that hang, stop counting the slow ones against IN_FLIGHT, and try further addresses."""
        self._check_at = self._now + CHECK_EVERY_S
        patience_s = self._patience_s()
        for connection in self._pool.busy():
            age_s = self._now - connection.sent_at
            if age_s >= patience_s:
                connection.avoid()
                self._release(connection, HANGING)
                continue
            if age_s >= SLOW_AFTER_S and not connection.is_slow:
                connection.is_slow = True
                self._in_flight -= 1
                self._slow += 1
            if connection.is_connecting:
                self._proceed(connection)

    def _patience_s(self) -> float:
        awaited = self._in_flight + self._slow
        if self._schedule.is_over() and awaited <= self._schedule.begun / 2:
            return min(ANSWER_WITHIN_S, self._linger_s)
        return ANSWER_WITHIN_S
