import pytest

from local.gateway.plain_request import HEAD_BYTES, NotPlain, PlainReader

READER = PlainReader("GET", "POST", body_bytes=10)
POST = b"POST /votes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def test_request_is_read_to_its_end_and_no_further() -> None:
    request = READER.read(POST + b"GET /next")
    assert request is not None
    assert (request.method, request.target, request.body, request.end) == ("POST", "/votes", b"{}", len(POST))
    assert request.headers == {"host": ["x"], "content-length": ["2"]}


def test_every_beginning_of_a_request_is_incomplete() -> None:
    assert all(READER.read(POST[:cut]) is None for cut in range(len(POST)))


def test_headers_of_one_name_stay_in_order() -> None:
    request = READER.read(b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\na:\t3 \r\n\r\n")
    assert request is not None
    assert request.headers["a"] == ["1", "3"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(POST.replace(b"POST", b"PUT"), id="another method"),
        pytest.param(POST.replace(b"/votes", b"/votes#a"), id="a fragment"),
        pytest.param(POST.replace(b"Host", b"Toast"), id="no host"),
        pytest.param(POST.replace(b"Host: x", b"Host: x\r\nHost: x"), id="two hosts"),
        pytest.param(POST.replace(b"Content-Length: 2\r\n", b""), id="a post without a length"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 2\r\nContent-Length: 2"), id="two lengths"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 11"), id="a body over the limit"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 0000000002"), id="a length of many digits"),
        pytest.param(POST.replace(b"Host: x", b"Host: x\r\nConnection: close"), id="a last request"),
        pytest.param(POST.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"), id="an expectation"),
        pytest.param(POST.replace(b"Host: x", b"Host: x\r\n folded"), id="a folded line"),
        pytest.param(POST.replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(b"\x16\x03\x01", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"x" * HEAD_BYTES, id="an endless head"),
    ],
)
def test_what_is_not_plain_is_refused(data: bytes) -> None:
    with pytest.raises(NotPlain):
        READER.read(data)


def test_kept_alive_connection_is_plain() -> None:
    assert READER.read(POST.replace(b"Host: x", b"Host: x\r\nConnection: Keep-Alive")) is not None
