"""Which requests are read without aiohttp: what two readers could take for different requests never is."""

import pytest

from local.gateway.plain_request import HEAD_BYTES, NotPlain, PlainReader

READER = PlainReader("GET", "POST", body_bytes=10)
POST = b"POST /votes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def test_a_post_is_read_to_its_end_and_no_further() -> None:
    post = READER.read(POST + b"POST /next")
    assert post is not None
    assert (post.method, post.target, post.body, post.end) == ("POST", "/votes", b"{}", len(POST))
    assert post.headers == {"host": ["x"], "content-length": ["2"]}


def test_a_get_needs_no_length_and_may_have_one() -> None:
    get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    request = READER.read(get + POST)
    assert request is not None
    assert (request.method, request.target, request.body, request.end) == ("GET", "/", b"", len(get))
    request = READER.read(POST.replace(b"POST", b"GET") + POST)
    assert request is not None
    assert (request.method, request.body, request.end) == ("GET", b"{}", len(POST) - 1)


def test_every_beginning_of_a_post_is_incomplete() -> None:
    assert all(READER.read(POST[:cut]) is None for cut in range(len(POST)))


def test_headers_of_one_name_stay_in_order() -> None:
    post = READER.read(POST.replace(b"Host: x", b"Host: x\r\nA: 1\r\nB: 2\r\na:\t3 "))
    assert post is not None
    assert post.headers["a"] == ["1", "3"]


def test_a_target_comes_as_it_was_sent() -> None:
    target = "/live/@connections/a%3D//../?b=c&d"
    post = READER.read(POST.replace(b"/votes", target.encode()))
    assert post is not None
    assert post.target == target


def headed(*lines: bytes) -> bytes:
    return POST.replace(b"Host: x", b"\r\n".join([b"Host: x", *lines]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(POST.replace(b"POST", b"PUT"), id="another method"),
        pytest.param(POST.replace(b"POST", b"post"), id="a method in lower case"),
        pytest.param(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", id="HEAD"),
        pytest.param(POST.replace(b"/votes", b"/votes#a"), id="a fragment"),
        pytest.param(POST.replace(b"/votes", b"http://x/votes"), id="an absolute target"),
        pytest.param(POST.replace(b"1.1", b"1.0"), id="HTTP/1.0"),
        pytest.param(headed(b"Connection: keep-alive").replace(b"1.1", b"1.0"), id="HTTP/1.0, kept alive"),
        pytest.param(POST.replace(b"1.1", b"2.0"), id="HTTP/2"),
        pytest.param(b"\r\n" + POST, id="an empty line in front"),
        pytest.param(b"\r\n\r\n" + POST, id="two empty lines in front"),
        pytest.param(POST.replace(b"Host", b"Toast"), id="no host"),
        pytest.param(headed(b"Host: x"), id="two hosts"),
        pytest.param(POST.replace(b"Content-Length: 2\r\n", b""), id="no length"),
        pytest.param(headed(b"Content-Length: 2"), id="two lengths"),
        pytest.param(headed(b"Content-Length: 3"), id="two lengths that differ"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 2, 2"), id="two lengths in one line"),
        pytest.param(POST.replace(b"Length: 2", b"Length: +2"), id="a length with a sign"),
        pytest.param(POST.replace(b"Length: 2", b"Length: -2"), id="a length below zero"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 0x2"), id="a hexadecimal length"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 2 2"), id="a length with a space in it"),
        pytest.param(POST.replace(b"Length: 2", b"Length:"), id="an empty length"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 11"), id="a body over the limit"),
        pytest.param(POST.replace(b"Length: 2", b"Length: 0000000002"), id="a length of many digits"),
        pytest.param(POST.replace(b"Length: 2", b"Length: " + b"9" * 5000), id="a length beyond every number"),
        pytest.param(POST.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"), id="chunks"),
        pytest.param(headed(b"Transfer-Encoding: chunked"), id="a length and chunks"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", id="a GET in chunks"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: x\r\n\r\n", id="a GET in another coding"),
        pytest.param(headed(b"Transfer-Encoding: identity"), id="a length and another coding"),
        pytest.param(headed(b"Transfer-Encoding : chunked"), id="chunks with a space after the name"),
        pytest.param(headed(b"X: y\nTransfer-Encoding: chunked"), id="chunks after a bare line feed"),
        pytest.param(headed(b"X: y\rTransfer-Encoding: chunked"), id="chunks after a bare carriage return"),
        pytest.param(headed(b"Connection: close"), id="a last request"),
        pytest.param(headed(b"Connection: close").replace(b"Length: 2", b"Length: 0"), id="a last request, empty"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", id="a last GET"),
        pytest.param(
            b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", id="a GET of HTTP/1.0, kept alive"
        ),
        pytest.param(headed(b"Connection: keep-alive, close"), id="a last request among options"),
        pytest.param(headed(b"Connection: Upgrade", b"Upgrade: websocket"), id="another protocol"),
        pytest.param(headed(b"Upgrade: websocket"), id="another protocol, half asked for"),
        pytest.param(headed(b"Expect: 100-continue"), id="an expectation"),
        pytest.param(headed(b" folded"), id="a folded line"),
        pytest.param(headed(b"X: y", b"\tfolded"), id="a line folded by a tab"),
        pytest.param(headed(b": y"), id="no name"),
        pytest.param(headed(b"X y"), id="no colon"),
        pytest.param(headed("X: \u00fc".encode()), id="a header beyond ASCII"),
        pytest.param(POST.replace(b"/votes", "/\u00fc".encode()), id="a target beyond ASCII"),
        pytest.param(headed(b"X: \0"), id="NUL in a header"),
        pytest.param(headed(b"X: \x01"), id="a control character in a header"),
        pytest.param(POST.replace(b"/votes", b"/\0"), id="NUL in the target"),
        pytest.param(POST.replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(b"POST / HTTP/1.1\nHost: x", id="a bare line feed, unfinished"),
        pytest.param(b"POST / HTTP/1.1\rHost: x", id="a bare carriage return, unfinished"),
        pytest.param(b"POST / nonsense", id="no version, unfinished"),
        pytest.param(b"\x16\x03\x01", id="TLS"),
        pytest.param(b"SSH-2.0", id="SSH"),
        pytest.param(b"POST / HTTP/1.1\r\nA: " + b"x" * HEAD_BYTES, id="an endless head"),
        pytest.param(headed(b"A: " + b"x" * HEAD_BYTES), id="a head over the limit"),
    ],
)
def test_what_is_not_plain_is_refused(data: bytes) -> None:
    with pytest.raises(NotPlain):
        READER.read(data)


def test_a_kept_alive_connection_is_plain() -> None:
    assert READER.read(headed(b"Connection: Keep-Alive")) is not None


def test_the_longest_head_and_body_are_plain() -> None:
    longest = POST.replace(b"Length: 2", b"Length: 10").replace(b"{}", b"x" * 10)
    filler = HEAD_BYTES - len(longest) + 10 - len(b"A: \r\n")
    post = READER.read(longest.replace(b"Host: x", b"A: " + b"x" * filler + b"\r\nHost: x"))
    assert post is not None
    assert post.end == READER.request_bytes
