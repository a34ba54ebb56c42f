import codecs

import pytest

from voting.web.media_type import CHARSETS, LONGEST, MediaType


@pytest.mark.parametrize(
    ("header", "kind", "codec"),
    [
        ("application/json", "application/json", "utf-8"),
        ("Application/JSON ;\tCharset=UTF8", "application/json", "utf-8"),
        ('application/json; charset="latin1" ; x=y', "application/json", "iso8859-1"),
        ('text/plain; x="a;charset=koi8-r\\""; charset=Windows-1252;', "text/plain", "cp1252"),
        ("multipart/form-data; boundary=----x", "multipart/form-data", "utf-8"),
    ],
)
def test_type_and_charset_are_read(header: str, kind: str, codec: str) -> None:
    assert MediaType.of(header) == MediaType(kind, codec)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "json",
        "a/b/c",
        "application/json, text/plain",
        "application/json; charset",
        "application/json; charset=",
        'application/json; charset="utf-8',
        "application/json; charset=utf-8; charset=latin1",
        "application/json; charset=utf-7",
        "application/json; charset*=utf-8''utf-8",
        "application/json; charset*0=utf; charset*1=-8",
        "application/json\r\nx: y",
        "application/json;" + " " * LONGEST,
    ],
)
def test_what_is_not_well_formed_or_of_another_charset_is_none(header: str | None) -> None:
    assert MediaType.of(header) is None


@pytest.mark.parametrize("codec", CHARSETS)
def test_every_charset_is_one_that_python_decodes_in_a_pass(codec: str) -> None:
    assert codecs.lookup(codec).name in {codec, codec.replace("-", "_")}
    assert "\x00" in b"a\x00b\x00".decode(codec) or codec.startswith("utf-16")
