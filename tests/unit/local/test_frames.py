import pytest

from local.gateway.frames import Binary, Close, FrameError, FrameReader, Ping, Pong, Text, encode, encode_close

MASK = b"\x01\x02\x03\x04"


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


def read(*chunks: bytes) -> list[Text | Ping | Pong | Close]:
    reader = FrameReader(frame_bytes=32768, message_bytes=131072)
    return [event for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 127, 32768])
def test_text_of_any_size_is_read_back(size: int) -> None:
    assert read(frame(1, b"x" * size)) == [Text("x" * size)]


def test_bytes_may_come_in_any_pieces() -> None:
    data = frame(1, "é".encode() * 100) + frame(9, b"hi") + frame(1, b"two")
    expected = [Text("é" * 100), Ping(b"hi"), Text("two")]
    assert read(data) == expected
    assert read(*(bytes([byte]) for byte in data)) == expected


def test_fragments_make_one_message_and_control_frames_go_between() -> None:
    events = read(frame(1, b"\xc3", fin=False), frame(9, b"p"), frame(0, b"\xa9", fin=False), frame(10), frame(0, b"!"))
    assert events == [Ping(b"p"), Pong(), Text("é!")]


def test_binary_message_stays_bytes() -> None:
    assert read(frame(2, b"\xff", fin=False), frame(0, b"\x00")) == [Binary(b"\xff\x00")]


def test_message_of_four_full_frames_is_the_largest() -> None:
    full = b"x" * 32768
    pieces = [frame(1, full, fin=False), *[frame(0, full, fin=False)] * 2, frame(0, full)]
    assert read(*pieces) == [Text("x" * 131072)]
    with pytest.raises(FrameError) as caught:
        read(*pieces[:3], frame(0, full, fin=False), frame(0, b"x"))
    assert caught.value.code == 1009


def test_frame_over_the_quota_is_refused_before_its_payload_has_come() -> None:
    with pytest.raises(FrameError) as caught:
        read(frame(1, b"x" * 32769)[:4])
    assert caught.value.code == 1009


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
def test_fault_closes_with_its_code(data: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        read(data)
    assert caught.value.code == code


def test_what_came_before_a_fault_is_still_read() -> None:
    reader = FrameReader(frame_bytes=100, message_bytes=100)
    events = reader.feed(frame(1, b"good") + frame(3, b"bad"))
    assert next(events) == Text("good")
    with pytest.raises(FrameError):
        next(events)


def test_close_gives_code_and_reason_or_none() -> None:
    assert read(frame(8)) == [Close(1005, "")]
    assert read(frame(8, (1001).to_bytes(2) + "später".encode())) == [Close(1001, "später")]


@pytest.mark.parametrize(("size", "header"), [(125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_server_frames_are_unmasked_and_have_the_shortest_length(size: int, header: int) -> None:
    sent = encode(1, b"x" * size)
    assert len(sent) == header + size
    assert sent[0] == 0x81
    assert not sent[1] & 0x80


def test_long_reason_is_cut_between_characters() -> None:
    sent = encode_close(1001, "é" * 100)
    assert len(sent) <= 127
    assert sent[4:].decode() == "é" * 61
