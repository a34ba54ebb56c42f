"""What a connection makes of a client's bytes, and what it sends back."""

import asyncio
from collections.abc import Callable

import pytest

from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_connection import Connection, Ending, Identity

MASK = b"\x01\x02\x03\x04"
IDENTITY = Identity(connection_id="x", source_ip="127.0.0.1", user_agent="", connected_ms=0)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True, reserved: int = 0) -> bytes:
    """Return a client's frame, well-formed or not."""
    length = len(payload)
    head = bytes([(0x80 if fin else 0) | reserved | opcode])
    masked = 0x80 if mask else 0
    if length < 126:
        head += bytes([masked | length])
    elif length < 65536:
        head += bytes([masked | 126]) + length.to_bytes(2)
    else:
        head += bytes([masked | 127]) + length.to_bytes(8)
    body = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload)) if mask else payload
    return head + (MASK if mask else b"") + body


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.has_ended = False
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_ended
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def is_reading(self) -> bool:
        return True

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Exchange:
    """What came out of a connection that was fed some bytes."""

    def __init__(self, *chunks: bytes, then: Callable[[Connection], None] = lambda _: None) -> None:
        self.wire = Wire()
        self.messages: list[str | bytes] = []
        self.is_open = True
        self.ending: Ending = asyncio.run(self._run(chunks, then))

    async def _run(self, chunks: tuple[bytes, ...], then: Callable[[Connection], None]) -> Ending:
        connection = Connection(IDENTITY, self.wire, WebSocketQuotas(), self._handle)
        for chunk in chunks:
            connection.feed_data(chunk)
        then(connection)
        self.is_open = connection.is_open
        connection.feed_eof()
        ending = await connection.ended()
        assert self.is_open or not connection.is_open
        return ending

    async def _handle(self, _connection: Connection, message: str | bytes) -> None:
        self.messages.append(message)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 127, 32768])
def test_text_of_any_size_is_read_back(size: int) -> None:
    assert Exchange(frame(1, b"x" * size)).messages == ["x" * size]


def test_bytes_may_come_in_any_pieces() -> None:
    data = frame(1, "é".encode() * 100) + frame(9, b"hi") + frame(1, b"two")
    for exchange in (Exchange(data), Exchange(*(bytes([byte]) for byte in data))):
        assert exchange.messages == ["é" * 100, "two"]
        assert exchange.wire.written == [b"\x8a\x02hi"]  # a pong
        assert exchange.is_open


def test_fragments_make_one_message_and_control_frames_go_between() -> None:
    exchange = Exchange(
        frame(1, b"\xc3", fin=False), frame(9, b"p"), frame(0, b"\xa9", fin=False), frame(10), frame(0, b"!")
    )
    assert exchange.messages == ["é!"]
    assert exchange.wire.written == [b"\x8a\x01p"]


def test_binary_message_stays_bytes() -> None:
    assert Exchange(frame(2, b"\xff", fin=False), frame(0, b"\x00")).messages == [b"\xff\x00"]


def test_message_of_four_full_frames_is_the_largest() -> None:
    full = b"x" * 32768
    pieces = [frame(1, full, fin=False), *[frame(0, full, fin=False)] * 2, frame(0, full)]
    assert Exchange(*pieces).messages == ["x" * 131072]
    over = Exchange(*pieces[:3], frame(0, full, fin=False), frame(0, b"x"))
    assert (over.messages, over.ending.code) == ([], 1009)


def test_frame_over_the_quota_is_refused_before_its_payload_has_come() -> None:
    assert Exchange(frame(1, b"x" * 32769)[:4]).ending.code == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"\xff"), 1007),
        (frame(1, b"plain", mask=False), 1002),
        (frame(1, b"x", reserved=0x40), 1002),
        (frame(3), 1002),
        (frame(11), 1002),
        (frame(0, b"continues nothing"), 1002),
        (frame(1, b"a", fin=False) + frame(1, b"b"), 1002),
        (frame(9, b"x" * 126), 1002),
        (frame(9, fin=False), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(8, (1005).to_bytes(2)), 1002),
        (frame(8, (999).to_bytes(2)), 1002),
        (frame(8, (1000).to_bytes(2) + b"\xff"), 1007),
    ],
)
def test_fault_closes_with_its_code_and_ends_our_half(data: bytes, code: int) -> None:
    exchange = Exchange(data, frame(1, b"ignored"))
    (sent,) = exchange.wire.written
    assert (exchange.ending.code, sent[0], int.from_bytes(sent[2:4])) == (code, 0x88, code)
    assert (exchange.messages, exchange.is_open) == ([], False)
    assert (exchange.wire.has_ended, exchange.wire.is_closed) == (True, False)


def test_what_came_before_a_fault_is_still_handled() -> None:
    exchange = Exchange(frame(1, b"good") + frame(3, b"bad"))
    assert (exchange.messages, exchange.ending.code) == (["good"], 1002)


def test_text_that_is_not_utf_8_counts_before_a_close_in_the_same_bytes() -> None:
    exchange = Exchange(frame(1, b"\xff") + frame(8, (1000).to_bytes(2)))
    assert exchange.ending.code == 1007


@pytest.mark.parametrize(
    ("payload", "ending"),
    [
        (b"", Ending(1005, "Client-side close frame status not set")),
        ((1001).to_bytes(2) + "später".encode(), Ending(1001, "später")),
    ],
)
def test_close_is_answered_and_reported(payload: bytes, ending: Ending) -> None:
    exchange = Exchange(frame(8, payload))
    assert (exchange.ending, exchange.wire.is_closed) == (ending, True)
    assert [sent[:1] for sent in exchange.wire.written] == [b"\x88"]


def test_what_crosses_our_close_frame_is_not_handled() -> None:
    def close_and_receive(connection: Connection) -> None:
        connection.close(1000, "done")
        connection.feed_data(frame(1, b"late") + frame(8, (1000).to_bytes(2)))

    exchange = Exchange(then=close_and_receive)
    assert (exchange.messages, exchange.ending) == ([], Ending(1000, "done"))
    assert exchange.wire.written == [b"\x88\x06\x03\xe8done"]
    assert exchange.wire.is_closed


@pytest.mark.parametrize(("size", "header"), [(125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_posts_are_unmasked_and_have_the_shortest_length(size: int, header: int) -> None:
    (sent,) = Exchange(then=lambda connection: connection.send(b"x" * size)).wire.written
    assert len(sent) == header + size
    assert sent[0] == 0x81
    assert not sent[1] & 0x80
