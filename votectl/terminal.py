"""What is printed. Stores, answers and logs hold text of others: a terminal shows it, and obeys none of it."""

import json
import sys
from typing import Any, TextIO


def plain(text: str) -> str:
    """*text* on one line: what steers a terminal, turns the direction of writing or cannot be seen is escaped.

    These are the characters that `repr` escapes: controls (C0, DEL, C1), formats (bidirectional ones, zero widths,
    tags), separators other than the space, surrogates, and what Unicode has not assigned.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def all_plain(value: Any) -> Any:
    """*value*, a document of JSON, with every text in it `plain`, those that name something too."""
    match value:
        case str():
            return plain(value)
        case dict():
            return {all_plain(name): all_plain(part) for name, part in value.items()}
        case list() | tuple():
            return [all_plain(part) for part in value]
    return value


def say(text: object, to: TextIO | None = None) -> None:
    """Print *text*, whose lines are ours and whose words may be of others, at once."""
    stream = to or sys.stdout
    encoding = stream.encoding or "utf-8"
    lines = "\n".join(map(plain, str(text).split("\n")))
    print(lines.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def complain(text: object) -> None:
    """Print *text* where errors and progress go."""
    say(text, sys.stderr)


def say_json(document: object) -> None:
    """Print *document* for a program: JSON in ASCII, in which no character steers a terminal."""
    say(json.dumps(document, indent=2).replace("\x7f", "\\u007f"))
