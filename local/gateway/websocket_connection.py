"""One client of the WebSocket API: its socket, its quotas, and how it ended."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from local.gateway.quotas import WebSocketQuotas


class SlowClient(Exception):
    """The client does not read: too much waits for it already, and it has been disconnected."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the gateway knows of the client."""

    connection_id: str
    source_ip: str
    user_agent: str
    connected_ms: int  # since the epoch


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection is over, for the $disconnect event."""

    code: int
    reason: str


ABNORMAL_ENDING = Ending(CloseCode.ABNORMAL_CLOSURE, "Connection Closed Abnormally")

_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class Connection:
    """An open WebSocket.

    The library `websockets` speaks the protocol. aiohttp feeds the bytes, as it would to a payload parser.
    """

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
        self._protocol = ServerProtocol(state=State.OPEN, max_size=(quotas.message_bytes, quotas.frame_bytes))
        self._message = bytearray()  # of which frames are still to come
        self._is_text = True  # that message
        self._waiting: deque[str | bytes] = deque()
        self._handling: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._ending: Ending | None = None  # once a side has begun to close
        self._active_s = self._loop.time()
        self._idle_timer = self._loop.call_later(quotas.idle_s, self._check_idle)
        self._close_timer = self._loop.call_later(quotas.age_s, self.close, CloseCode.GOING_AWAY, "Going away")

    @property
    def is_open(self) -> bool:
        """Whether a post would be sent."""
        return self._ending is None

    @property
    def active_at(self) -> datetime:
        """The time of the last frame in either direction."""
        silent_s = self._loop.time() - self._active_s
        return datetime.now(UTC) - timedelta(seconds=silent_s)

    def send(self, message: bytes) -> None:
        """Hand one text message to the socket, without waiting for the client to read it.

        Raises:
            SlowClient: the client has left `unsent_bytes` unread; the connection is over.
        """
        if self._transport.get_write_buffer_size() > self._quotas.unsent_bytes:
            self._end(Ending(CloseCode.ABNORMAL_CLOSURE, "The client does not read"))
            self._transport.abort()
            raise SlowClient
        self._active_s = self._loop.time()
        self._transport.write(_text_frame(message))

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; a client that does not answer it is disconnected a little later."""
        if self._ending is None:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code, reason)
                self._flush()
            self._end_soon(Ending(code, reason))
            self._transport.resume_reading()  # or the client's answer would never be read

    def hang_up(self, code: int, reason: str) -> None:
        """Close and ignore what still comes, as after a fault of the client or when the gateway stops.

        Only our half of the socket is closed: if the client's data were left unread, the kernel would send a reset,
        which could overtake the close frame.
        """
        self.close(code, reason)
        if not self._transport.is_closing():
            self._protocol.fail(code, reason)
            self._flush()

    def abort(self) -> None:
        """Disconnect the client without sending what still waits."""
        self._transport.abort()

    async def ended(self) -> Ending:
        """Wait until the socket is closed and every message that came before has been handled."""
        ending = await self._ended
        while self._handling:
            await asyncio.wait(self._handling)
        return ending

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes from the client: aiohttp's interface of a payload parser."""
        self._active_s = self._loop.time()
        self._protocol.receive_data(data)
        self._flush()
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame):  # always, for an open connection
                self._receive(frame)
        failure = self._protocol.close_sent
        if self._protocol.parser_exc is not None and failure is not None and self._ending is None:
            self._end_soon(Ending(failure.code, failure.reason))
        return False, b""

    def feed_eof(self) -> None:
        """Take the end of the connection: aiohttp's interface of a payload parser."""
        ending = self._end(ABNORMAL_ENDING)
        self._close_timer.cancel()
        if not self._ended.done():
            self._ended.set_result(ending)

    def _flush(self) -> None:
        """Write what the protocol has to send; an empty item is the end of our half of the socket."""
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif not self._transport.is_closing():
                self._transport.write_eof()

    def _receive(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:  # the protocol has answered it
            self._end_by_client()
        elif frame.opcode in _DATA and self._ending is None:  # what crossed our close frame is not handled any more
            self._collect(frame)

    def _collect(self, frame: Frame) -> None:
        """Add a frame of data to its message, and have a complete message handled."""
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._message += frame.data
        if not frame.fin:
            return
        message, self._message = bytes(self._message), bytearray()
        try:
            self._waiting.append(message.decode() if self._is_text else message)
        except UnicodeDecodeError:
            self.hang_up(CloseCode.INVALID_DATA, "Text is not UTF-8")
        else:
            self._start_waiting()

    def _end_by_client(self) -> None:
        close = self._protocol.close_rcvd
        if self._ending is None and close is not None:
            has_code = close.code != CloseCode.NO_STATUS_RCVD
            self._end_soon(Ending(close.code, close.reason if has_code else "Client-side close frame status not set"))
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
            task.result()  # a fault of ours goes to the loop's handler, which logs it

    def _end_soon(self, ending: Ending) -> None:
        """Note how it ended, and disconnect a client that does not close its side in time."""
        self._end(ending)
        self._close_timer = self._loop.call_later(self._quotas.closing_s, self._transport.abort)

    def _end(self, ending: Ending) -> Ending:
        """Note how it ended, unless that is known already; return what is known."""
        if self._ending is None:
            self._ending = ending
            self._idle_timer.cancel()
            self._close_timer.cancel()
        return self._ending

    def _check_idle(self) -> None:
        """Close if no frame went either way for the idle time; else check again when that time could be over."""
        left_s = self._active_s + self._quotas.idle_s - self._loop.time()
        if left_s <= 0:
            self.close(CloseCode.GOING_AWAY, "Going away")
        else:
            self._idle_timer = self._loop.call_later(left_s, self._check_idle)


def _text_frame(payload: bytes) -> bytes:
    """Encode a server's text frame (RFC 6455, section 5.2): a broadcast is thousands, and `websockets` costs more."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2) + payload
    return b"\x81\x7f" + length.to_bytes(8) + payload
