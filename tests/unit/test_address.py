import pytest

from voting.address import normal_origin


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://A.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("https://a.example:80", "https://a.example:80"),
        ("https://a.example:", "https://a.example"),
        (" https://a.example/ ", "https://a.example"),
        ("null", "null"),
        ("", ""),
    ],
)
def test_origins_have_one_spelling(origin: str, expected: str) -> None:
    assert normal_origin(origin) == expected
