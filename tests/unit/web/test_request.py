import pytest

from tests.unit.http_function import event
from voting.web.request import BadBase64, Request, canonical


def test_cookies_are_read_from_where_the_sender_put_them() -> None:
    aws = Request.of(event("get-vote-page", cookies=["a=1", "b=2=3", "a=4"]))
    imitation = Request.of(event("get-vote-page", headers={"Cookie": "a=1; b=2=3;a=4; junk"}))
    assert aws.cookies == imitation.cookies == (("a", "1"), ("b", "2=3"), ("a", "4"))
    assert aws.cookie_values("a") == ["1", "4"]


def test_body_is_the_bytes_that_were_sent() -> None:
    assert Request.of(event("post-form")).body == b"vote=a"
    assert Request.of(event("post-json", body="ü")).body == "ü".encode()
    assert Request.of(event("get-vote-page")).body == b""
    with pytest.raises(BadBase64):
        _ = Request.of(event("post-json", body="?") | {"isBase64Encoded": True}).body


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("//", "/"),
        ("", "/"),
        ("results", "/results"),
        ("/api/votes", "/api/votes"),
        ("/api/votes/", "/api/votes"),
        ("//api//votes", "/api/votes"),
    ],
)
def test_paths_have_one_spelling(path: str, expected: str) -> None:
    assert canonical(path) == expected


@pytest.mark.parametrize(
    ("accept", "path", "expected"),
    [
        ("text/html,*/*;q=0.8", "/", True),
        (" Text/HTML", "/results", True),
        ("text/html", "/api/results", False),
        ("text/html", "/health", False),
        ("*/*", "/", False),
        ("application/json, text/html", "/", False),
        (None, "/", False),
    ],
)
def test_pages_are_for_browsers(accept: str | None, path: str, expected: bool) -> None:
    assert Request.of(event("get-vote-page", path=path, headers={"accept": accept})).wants_page is expected
