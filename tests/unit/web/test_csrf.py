import pytest

from voting.web.csrf import may_connect, own_origin


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000"])
def test_a_loopback_page_is_the_same_under_any_of_its_names(origin: str) -> None:
    assert may_connect(origin, "http://127.0.0.1:3000", frozenset())
    assert not may_connect(origin, "http://127.0.0.1:4000", frozenset())
    assert not may_connect(origin, "https://vote.example.org", frozenset())


@pytest.mark.parametrize("origin", ["http://localhost", "http://127.0.0.1:80", "http://[::1]:80"])
def test_a_loopback_page_on_the_default_port_is_the_same_under_any_of_its_names(origin: str) -> None:
    assert may_connect(origin, "http://127.0.0.1", frozenset())
    assert not may_connect(origin, "http://127.0.0.1:3000", frozenset())
    assert not may_connect(origin, "https://127.0.0.1", frozenset())


@pytest.mark.parametrize(
    "origin",
    [
        "http://[::1",
        "http://x@localhost:3000",
        "http://localhost:3000/x",
        "http://localhost.evil.org:3000",
        "localhost",
    ],
)
def test_what_only_resembles_a_loopback_page_is_another(origin: str) -> None:
    assert not may_connect(origin, "http://127.0.0.1:3000", frozenset())


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        ("https", "https://live.example.org"),
        ("HTTPS", "https://live.example.org"),
        ("http, https", "https://live.example.org"),
        ("https, http", ""),
        ("", ""),
    ],
)
def test_the_protocol_that_the_gateway_wrote_decides(protocols: str, expected: str) -> None:
    assert own_origin("Live.example.org", protocols) == expected
