"""Content-Type: the media type, and the charset of the text (RFC 9110, section 8.3)."""

import re
from functools import lru_cache
from typing import NamedTuple

LONGEST = 200  # characters; a type with a charset has about 50. Longer values are not parsed or cached

# Python's codecs, and the names of the Encoding Standard and of Python that select them. Other names are refused
# without a lookup: the interpreter caches each name that it fails to find, and some codecs take quadratic time.
CHARSETS = {
    "utf-8": ("utf-8", "utf8", "unicode-1-1-utf-8", "x-unicode20utf8"),
    "utf-8-sig": ("utf-8-sig",),
    "ascii": ("us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us"),
    "iso8859-1": ("iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "latin-1", "l1"),
    "iso8859-2": ("iso-8859-2", "iso8859-2", "latin2", "latin-2"),
    "iso8859-5": ("iso-8859-5", "iso8859-5", "cyrillic"),
    "iso8859-7": ("iso-8859-7", "iso8859-7", "greek"),
    "iso8859-9": ("iso-8859-9", "iso8859-9", "latin5"),
    "iso8859-15": ("iso-8859-15", "iso8859-15", "latin9", "latin-9"),
    "cp1250": ("windows-1250", "cp1250"),
    "cp1251": ("windows-1251", "cp1251"),
    "cp1252": ("windows-1252", "cp1252"),
    "cp1253": ("windows-1253", "cp1253"),
    "cp1254": ("windows-1254", "cp1254"),
    "cp1255": ("windows-1255", "cp1255"),
    "cp1256": ("windows-1256", "cp1256"),
    "cp1257": ("windows-1257", "cp1257"),
    "cp1258": ("windows-1258", "cp1258"),
    "koi8-r": ("koi8-r", "koi8_r", "koi8"),
    "koi8-u": ("koi8-u", "koi8_u"),
    "utf-16": ("utf-16", "utf16"),
    "utf-16-le": ("utf-16le", "utf-16-le"),
    "utf-16-be": ("utf-16be", "utf-16-be"),
}
CODECS = {name: codec for codec, names in CHARSETS.items() for name in names}

TYPE = re.compile(r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*")
# A parameter: its name, and a token or a quoted string. No two parts of it can match the same text, so matching takes
# one pass. Names with * (RFC 2231) are not supported, since no client sends them here.
PARAMETER = re.compile(r""";[ \t]*(?:([!#$%&'+.^_`|~0-9A-Za-z-]+)=(?:([^\s";,]+)|"((?:[^"\\]|\\.)*)")[ \t]*)?""")


class MediaType(NamedTuple):
    """`kind` in lower case, such as `application/json`, and the name of Python's codec for the text."""

    kind: str
    codec: str

    @classmethod
    def of(cls, header: str | None) -> "MediaType | None":
        """Parse a Content-Type; None if it is missing or malformed, or its charset is not in CHARSETS."""
        return None if header is None or len(header) > LONGEST else _read(header)


@lru_cache(maxsize=64)  # nearly all clients send one of a few values
def _read(header: str) -> MediaType | None:
    start = TYPE.match(header)
    if start is None:
        return None
    charset, at = None, start.end()
    while at < len(header):
        part = PARAMETER.match(header, at)
        if part is None:
            return None
        at = part.end()
        if (part[1] or "").lower() == "charset":
            if charset is not None:  # two charsets: we cannot know which one was meant
                return None
            charset = part[2] or part[3] or ""
    codec = CODECS.get("utf-8" if charset is None else charset.lower())
    return MediaType(start[1].lower(), codec) if codec else None
