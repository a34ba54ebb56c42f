"""WebSocket frames on a server's side: bytes from a client become messages, messages become bytes.

Source: RFC 6455, section 5 (framing), 7.4 (close codes). Written here, and not taken from aiohttp, because the quota
of API Gateway on a single frame shows only below the level of whole messages, and because a post must never wait for
a reader.
"""

from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_STATUS, ABNORMAL, NOT_UTF8, TOO_BIG = (
    1000,
    1001,
    1002,
    1005,
    1006,
    1007,
    1009,
)
CONTROL_BYTES = 125  # the most a control frame carries


class FrameError(Exception):
    """The client broke the protocol or a quota: the connection closes with *code*."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Text:
    """A whole message, however many frames it came in."""

    text: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A whole message of bytes. API Gateway itself closes with 1003 here; see docs/decisions."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered by a pong with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """An answer to a ping, or a sign of life."""


@dataclass(frozen=True, slots=True)
class Close:
    """The client's close frame; *code* is NO_STATUS where it gave none."""

    code: int
    reason: str


def encode(opcode: int, payload: bytes) -> bytes:
    """Return one unmasked frame, as a server sends it."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8) + payload


def encode_close(code: int, reason: str) -> bytes:
    """Return a close frame; *reason* is cut to what fits."""
    text = reason.encode()[: CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return encode(CLOSE, code.to_bytes(2) + text)


class FrameReader:
    """Takes bytes as they come, gives messages as they are complete."""

    def __init__(self, frame_bytes: int, message_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._message_bytes = message_bytes
        self._unread = bytearray()
        self._message: bytearray | None = None  # of which frames are still to come
        self._is_text = True

    def feed(self, data: bytes) -> Iterator[Text | Binary | Ping | Pong | Close]:
        """Yield what *data* completes.

        Raises:
            FrameError: after what came whole before the fault; nothing may be fed any more.
        """
        self._unread += data
        while frame := self._frame():
            if event := self._event(*frame):
                yield event

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """Cut one frame off what is unread: final?, opcode, unmasked payload. None while it is incomplete."""
        unread = self._unread
        if len(unread) < 2:
            return None
        first, second = unread[0], unread[1]
        length = second & 0x7F
        self._check_header(first, second, length)
        start = 2
        if length > CONTROL_BYTES:
            start = 4 if length == 126 else 10
            if len(unread) < start:
                return None
            length = int.from_bytes(unread[2:start])
        if length > self._frame_bytes:  # known before its payload has come, and not waited for
            raise FrameError(TOO_BIG, "Frame too big")
        end = start + 4 + length
        if len(unread) < end:
            return None
        payload = _unmask(bytes(unread[start + 4 : end]), bytes(unread[start : start + 4]))
        del unread[:end]
        return bool(first & 0x80), first & 0x0F, payload

    @staticmethod
    def _check_header(first: int, second: int, length: int) -> None:
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "Reserved bits are set")
        if not second & 0x80:
            raise FrameError(PROTOCOL_ERROR, "A client must mask its frames")
        if first & 0x08 and (length > CONTROL_BYTES or not first & 0x80):
            raise FrameError(PROTOCOL_ERROR, "A control frame is too long or fragmented")

    def _event(self, final: bool, opcode: int, payload: bytes) -> Text | Binary | Ping | Pong | Close | None:
        match opcode:
            case 0x0 | 0x1 | 0x2:
                return self._data(final, opcode, payload)
            case 0x8:
                return _close(payload)
            case 0x9:
                return Ping(payload)
            case 0xA:
                return Pong()
            case _:
                raise FrameError(PROTOCOL_ERROR, "Unknown opcode")

    def _data(self, final: bool, opcode: int, payload: bytes) -> Text | Binary | None:
        if (opcode == CONTINUATION) != (self._message is not None):
            raise FrameError(PROTOCOL_ERROR, "Frames of messages are out of order")
        if self._message is None:
            self._message, self._is_text = bytearray(), opcode == TEXT
        self._message += payload
        if len(self._message) > self._message_bytes:
            raise FrameError(TOO_BIG, "Message too big")
        if not final:
            return None
        message, self._message = bytes(self._message), None
        return Text(_decoded(message)) if self._is_text else Binary(message)


def _unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR *payload* with the repeated *mask*, all of it at once."""
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise FrameError(NOT_UTF8, "Text is not UTF-8") from error


def _close(payload: bytes) -> Close:
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise FrameError(PROTOCOL_ERROR, "Invalid close frame")
    return Close(code, _decoded(payload[2:]))
