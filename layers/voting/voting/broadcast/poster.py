"""Posts to WebSocket connections, and closes them, through API Gateway's management API (`…/@connections/{id}`).

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
boto3 posts a few hundred messages per CPU-second; this keeps hundreds of requests in flight on one thread.
"""

import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from voting.broadcast.feed import UNLIMITED, Feed, Limits, SameFrame
from voting.broadcast.http_connection import ConnectionPool, Endpoint
from voting.broadcast.post_schedule import Outcome, PostSchedule
from voting.broadcast.posting_loop import PostingLoop
from voting.broadcast.sigv4 import Credentials, SignedRequests

if TYPE_CHECKING:
    from voting.broadcast.container_credentials import ContainerCredentials


class Forbidden(Exception):
    """API Gateway refuses our signature or our role: no post will succeed until an operator fixes it."""


class Poster:
    """Posts frames over HTTP connections that are kept between invocations."""

    def __init__(
        self,
        websocket_url: str,
        region: str,
        credentials: "Credentials | ContainerCredentials",
        *,
        prefers_ipv6: bool = False,
    ) -> None:
        """Post to the connections of *websocket_url* (ws:// or wss://, including the stage)."""
        url = urlsplit(websocket_url)
        secure = url.scheme == "wss"
        self._authority = url.netloc.rpartition("@")[2]
        self._folder = f"{url.path.rstrip('/')}/@connections"
        self._region = region
        self._credentials = credentials
        port = url.port or (443 if secure else 80)
        self._pool = ConnectionPool(Endpoint(url.hostname or "", port, secure=secure, prefers_ipv6=prefers_ipv6))

    def post(self, connection_ids: Iterable[str], frame: bytes, within_s: float = UNLIMITED.within_s) -> Outcome:
        """Post *frame* to each of *connection_ids*; a slow or hanging one does not delay the others.

        No attempt begins after *within_s*.

        Raises:
            Forbidden: the management API answered 403.
        """
        return self.serve(SameFrame(connection_ids, frame), Limits(within_s=within_s))

    def disconnect(self, connection_ids: Iterable[str], within_s: float = UNLIMITED.within_s) -> Outcome:
        """Close each of *connection_ids*. Those that were already closed are in `gone`; the others count as `sent`.

        Raises:
            Forbidden: the management API answered 403.
        """
        return self._run("DELETE", SameFrame(connection_ids, b""), Limits(within_s=within_s))

    def serve(self, feed: Feed, limits: Limits = UNLIMITED) -> Outcome:
        """Post what *feed* hands out until it ends or a limit is reached; a slow connection does not delay the others.

        Connections that still wait for a retry at the time limit have failed, and are not settled with the feed.

        Raises:
            Forbidden: the management API answered 403.
        """
        return self._run("POST", feed, limits)

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()

    def _run(self, method: str, feed: Feed, limits: Limits) -> Outcome:
        schedule = PostSchedule(feed, limits, time.monotonic())
        try:
            PostingLoop(schedule, self._pool, partial(self._sign, method), limits.linger_s).run()
        finally:
            self._pool.drop_busy()
        if schedule.is_forbidden:
            raise Forbidden(f"{method} https://{self._authority}{self._folder}/… answers 403")
        return schedule.finish()

    def _sign(self, method: str, body: bytes) -> SignedRequests:
        """The requests that carry *body*, which stay valid for five minutes."""
        return SignedRequests(
            self._credentials.current(),
            self._region,
            "execute-api",
            host=self._authority,
            folder=self._folder,
            body=body,
            method=method,
        )
