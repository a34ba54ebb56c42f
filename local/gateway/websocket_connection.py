"""One client of the WebSocket API: its socket, its quotas, and how it ended."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from local.gateway import frames
from local.gateway.quotas import WebSocketQuotas


class Overflowing(Exception):
    """The client does not read: too much waits for it already, and it has been cut off."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who connected, as far as the gateway knows."""

    connection_id: str
    source_ip: str
    user_agent: str
    connected_ms: int  # since the epoch


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection is over, for the $disconnect event."""

    code: int
    reason: str


ABNORMAL_ENDING = Ending(frames.ABNORMAL, "Connection Closed Abnormally")


class Connection:
    """An open WebSocket. Its bytes are fed by aiohttp, to which it looks like a payload parser."""

    def __init__(
        self,
        identity: Identity,
        transport: asyncio.Transport,
        quotas: WebSocketQuotas,
        handle: Callable[["Connection", str | bytes], Coroutine[Any, Any, None]],
    ) -> None:
        self.identity = identity
        self._transport = transport
        self._quotas = quotas
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._reader = frames.FrameReader(quotas.frame_bytes, quotas.message_bytes)
        self._waiting: deque[str | bytes] = deque()
        self._handling: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._ending: Ending | None = None  # once a side has begun to close
        self._deaf = False  # what still comes is thrown away
        self._active_s = self._loop.time()
        self._idle_timer = self._loop.call_later(quotas.idle_s, self._check_idle)
        self._close_timer = self._loop.call_later(quotas.age_s, self.close, frames.GOING_AWAY, "Going away")

    @property
    def is_open(self) -> bool:
        """Tell whether a post would be sent."""
        return self._ending is None

    @property
    def active_at(self) -> datetime:
        """When a frame last went either way."""
        silent_s = self._loop.time() - self._active_s
        return datetime.now(UTC) - timedelta(seconds=silent_s)

    def send(self, message: bytes) -> None:
        """Hand one text message to the socket, without waiting for the client to read it.

        Raises:
            Overflowing: the client has left `unsent_bytes` unread; the connection is over.
        """
        if self._transport.get_write_buffer_size() > self._quotas.unsent_bytes:
            self._end(Ending(frames.ABNORMAL, "The client does not read"))
            self._transport.abort()
            raise Overflowing
        self._active_s = self._loop.time()
        self._transport.write(frames.encode(frames.TEXT, message))

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; a client that does not answer it is cut off a little later."""
        if self._ending is None:
            self._transport.write(frames.encode_close(code, reason))
            self._end(Ending(code, reason))
            self._transport.resume_reading()  # or the client's answer would never be read
            self._close_timer = self._loop.call_later(self._quotas.closing_s, self._transport.abort)

    def hang_up(self, code: int, reason: str) -> None:
        """Close and listen no more, as after a fault of the client's or when the gateway itself goes away.

        Only our half of the socket is shut: what the client still sends would, unread, become a reset, and that could
        overtake the close frame.
        """
        self.close(code, reason)
        self._deaf = True
        if not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Cut the client off, whatever still waits to be sent."""
        self._transport.abort()

    async def ended(self) -> Ending:
        """Wait until the socket is closed and every message that came before has been handled."""
        ending = await self._ended
        while self._handling:
            await asyncio.wait(self._handling)
        return ending

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes from the client: aiohttp's interface of a payload parser."""
        if self._deaf:
            return False, b""
        self._active_s = self._loop.time()
        try:
            for event in self._reader.feed(data):
                self._receive(event)
        except frames.FrameError as error:
            self.hang_up(error.code, error.reason)
        return False, b""

    def feed_eof(self) -> None:
        """Take the end of the connection: aiohttp's interface of a payload parser."""
        ending = self._end(ABNORMAL_ENDING)
        self._close_timer.cancel()
        if not self._ended.done():
            self._ended.set_result(ending)

    def _receive(self, event: frames.Text | frames.Binary | frames.Ping | frames.Pong | frames.Close) -> None:
        match event:
            case frames.Close(code, reason):
                self._answer_close(code, reason)
            case _ if self._ending:
                pass  # what crossed our close frame on the wire is not handled any more
            case frames.Text(message) | frames.Binary(message):
                self._waiting.append(message)
                self._start_waiting()
            case frames.Ping(payload):
                self._transport.write(frames.encode(frames.PONG, payload))

    def _answer_close(self, code: int, reason: str) -> None:
        if self._ending is None:
            echo = frames.NORMAL if code == frames.NO_STATUS else code
            self._transport.write(frames.encode_close(echo, ""))
            if code == frames.NO_STATUS:
                reason = "Client-side close frame status not set"
            self._end(Ending(code, reason))
            self._close_timer = self._loop.call_later(self._quotas.closing_s, self._transport.abort)
        self._transport.close()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._handling) < self._quotas.frames_at_once:
            task = self._loop.create_task(self._handle(self, self._waiting.popleft()))
            self._handling.add(task)
            task.add_done_callback(self._handled)
        if len(self._waiting) > self._quotas.frames_waiting:
            self._transport.pause_reading()
        elif not self._waiting and not self._transport.is_reading():
            self._transport.resume_reading()

    def _handled(self, task: asyncio.Task[None]) -> None:
        self._handling.discard(task)
        self._start_waiting()
        if not task.cancelled():
            task.result()  # an error of ours goes to the loop's handler, which logs it

    def _end(self, ending: Ending) -> Ending:
        """Note how it ended, if that was not known yet; return what is known."""
        if self._ending is None:
            self._ending = ending
            self._idle_timer.cancel()
            self._close_timer.cancel()
        return self._ending

    def _check_idle(self) -> None:
        """Close if nothing went either way for so long; else look again when that could be."""
        left_s = self._active_s + self._quotas.idle_s - self._loop.time()
        if left_s <= 0:
            self.close(frames.GOING_AWAY, "Going away")
        else:
            self._idle_timer = self._loop.call_later(left_s, self._check_idle)
