"""Safe output. Stores, responses and logs hold text from others, which must not control the terminal."""

import json
import sys
from typing import Any, TextIO


def plain(text: str) -> str:
    """*text* on one line, with control, bidirectional and invisible characters escaped.

    These are the characters that `repr` escapes: controls (C0, DEL, C1), formats (bidirectional, zero-width, tags),
    separators other than the space, surrogates, and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def all_plain(value: Any) -> Any:
    """A JSON document with every string in it `plain`, keys included."""
    match value:
        case str():
            return plain(value)
        case dict():
            return {all_plain(name): all_plain(part) for name, part in value.items()}
        case list() | tuple():
            return [all_plain(part) for part in value]
    return value


def say(text: object, to: TextIO | None = None) -> None:
    """Print *text* at once: its line breaks are ours, its words may come from others."""
    stream = to or sys.stdout
    encoding = stream.encoding or "utf-8"
    lines = "\n".join(map(plain, str(text).split("\n")))
    print(lines.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def complain(text: object) -> None:
    """Print *text* on standard error."""
    say(text, sys.stderr)


def say_json(document: object) -> None:
    """Print *document* as JSON in ASCII, without control characters."""
    say(json.dumps(document, indent=2).replace("\x7f", "\\u007f"))
