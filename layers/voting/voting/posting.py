"""Posts to WebSocket connections through API Gateway's management API (`POST …/@connections/{id}`).

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
boto3 posts some hundred messages a second and core; this keeps hundreds of requests in flight on one.
"""

import asyncio
import hashlib
import random
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from voting.signing import Credentials, Signer

IN_FLIGHT = 256
ANSWER_WITHIN_S = 3.0  # a hanging connection costs one slot of IN_FLIGHT for so long
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


@dataclass(slots=True)
class _Round:
    """One frame on its way to many connections."""

    waiting: deque[tuple[str, int]]  # connection id, attempts so far
    frame: bytes
    frame_sha256: str
    ends_at: float
    outcome: Outcome = field(default_factory=Outcome)
    forbidden: bool = False


class Poster:
    """Posts frames, over connections that are kept between invocations."""

    def __init__(self, websocket_url: str, region: str, credentials: Credentials) -> None:
        """Post to the connections of *websocket_url* (ws:// or wss://, the stage included)."""
        url = urlsplit(websocket_url)
        secure = url.scheme == "wss"
        self._host = url.hostname or ""
        self._port = url.port or (443 if secure else 80)
        self._ssl = ssl.create_default_context() if secure else None
        self._stage = url.path.rstrip("/")
        authority = url.netloc.rpartition("@")[2]
        self._authority = authority
        self._signer = Signer(credentials, region, "execute-api", method="POST", host=authority)
        self._loop = asyncio.new_event_loop()
        self._idle: list[_Line] = []

    def post(self, connection_ids: Iterable[str], frame: bytes) -> Outcome:
        """Post *frame* to each of *connection_ids*; a slow or hanging one delays no other.

        Raises:
            Forbidden: the management API answered 403.
        """
        return self._loop.run_until_complete(self._post(connection_ids, frame))

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().abort()
        self._loop.run_until_complete(asyncio.sleep(0))  # lets the transports close their sockets
        self._loop.close()

    async def _post(self, connection_ids: Iterable[str], frame: bytes) -> Outcome:
        round_ = _Round(
            deque((connection_id, 0) for connection_id in connection_ids),
            frame,
            hashlib.sha256(frame).hexdigest(),
            self._loop.time() + GIVE_UP_AFTER_S,
        )
        lines = min(IN_FLIGHT, len(round_.waiting))
        await asyncio.gather(*(self._serve(round_) for _ in range(lines)))
        round_.outcome.failed += (connection_id for connection_id, _ in round_.waiting)
        if round_.forbidden:
            raise Forbidden(f"POST https://{self._authority}{self._stage}/@connections/… answers 403")
        return round_.outcome

    async def _serve(self, round_: _Round) -> None:
        """Post one after another until nothing waits."""
        while round_.waiting and not round_.forbidden and self._loop.time() < round_.ends_at:
            connection_id, attempts = round_.waiting.popleft()
            status = await self._attempt(self._request(connection_id, round_))
            outcome = round_.outcome
            if 200 <= status < 300:
                outcome.sent += 1
            elif status == 410:
                outcome.gone.append(connection_id)
            elif status == 403:
                round_.forbidden = True
            elif status == 429:  # waiting here, with its slot, also slows the whole round down
                outcome.throttled += 1
                await asyncio.sleep(random.uniform(0, min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** min(attempts, 10))))  # noqa: S311
                round_.waiting.append((connection_id, attempts + 1))
            elif status != HANGING and attempts == 0:
                round_.waiting.append((connection_id, 1))
            else:
                outcome.failed.append(connection_id)

    async def _attempt(self, request: bytes) -> int:
        """Send *request*; the status of the answer, HANGING where none came in time, BROKEN where none can come."""
        try:
            line = self._idle.pop() if self._idle else await self._line()
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    status = await line.post(request)
            except BaseException:
                line.abort()  # what it still brings would be taken for the answer to the next request
                raise
        except TimeoutError:
            return HANGING
        except OSError:
            return BROKEN
        if not line.closed:
            self._idle.append(line)
        return status

    async def _line(self) -> "_Line":
        async with asyncio.timeout(ANSWER_WITHIN_S):
            _, line = await self._loop.create_connection(
                lambda: _Line(self._loop), self._host, self._port, ssl=self._ssl
            )
        return line

    def _request(self, connection_id: str, round_: _Round) -> bytes:
        path = f"{self._stage}/@connections/{quote(connection_id, safe='')}"
        return (
            f"POST {path} HTTP/1.1\r\nhost: {self._authority}\r\ncontent-length: {len(round_.frame)}\r\n"
            f"{self._signer.headers(path, round_.frame_sha256)}\r\n"
        ).encode() + round_.frame


class _Line(asyncio.Protocol):
    """One kept HTTP/1.1 connection, one request at a time. RFC 9112, as far as the management API makes use of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self._loop = loop
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    async def post(self, request: bytes) -> int:
        """Send *request* and return the status of its answer; raises OSError where the line breaks."""
        if self.closed:
            raise ConnectionResetError
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return await self._answer

    def abort(self) -> None:
        self.closed = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_connection makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        head = self._received[:end].lower()
        body = len(self._received) - end - 4
        _, found, length = head.partition(b"\r\ncontent-length:")
        if found:
            complete = body >= int(length.split(b"\r\n", 1)[0])
        elif b"\r\ntransfer-encoding:" in head:
            complete = self._received.endswith(b"0\r\n\r\n")
        else:
            complete = True
        if complete:
            self.closed = self.closed or b"\r\nconnection: close" in head
            answer, self._answer, self._received = self._answer, None, b""
            if not answer.done():
                answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError())
