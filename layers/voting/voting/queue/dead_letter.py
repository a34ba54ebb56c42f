"""A dead letter: a message that is no vote, as it is parked for an operator to look at."""

import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any

REFUSED = "refused_by_database"  # the reason of the dead letters; their SQLSTATE is in a field of its own

LONGEST_DEAD_PAYLOAD = 64 * 1024
SHORT_PAYLOAD = 200  # bytes that stay of a payload where the list is full
CAUSE = ("sqlstate", "error")
LATEST_MS = 10**14  # that is taken for a time
UNREADABLE = "unreadable"  # the reason of what gives none, whoever left it in the list

# As scripts/shared/reason_of.lua: ours are such words, and no other is repeated to an operator.
WORD = r"[A-Za-z0-9_.:-]{1,64}"
PLAIN_REASON = re.compile(rb'\{"reason": "(%b)"' % WORD.encode())


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that is no vote, and why."""

    reason: str
    message: bytes  # its beginning, where it was read from a letter that is_cut
    at_ms: int | None = None  # when it was parked; None before it is
    is_cut: bool = False
    sqlstate: str | None = None  # where the database refused it
    error: str | None = None  # the class of the error that the database or its client raised

    def encode(self) -> bytes:
        """JSON with `reason`, `at` (ms since the epoch) and `payload`, or `payload_base64` where it is not UTF-8.

        Of a vote that the database refused also `sqlstate`, if it gave one, and `error`.
        Over 64 KB the payload is cut, and `length` (bytes) and `sha256` of the whole stand beside it.
        """
        letter: dict[str, object] = {"reason": self.reason, "at": time.time_ns() // 1_000_000}
        letter |= {name: said for name in CAUSE if (said := getattr(self, name)) is not None}
        kept = self.message[:LONGEST_DEAD_PAYLOAD]
        if len(kept) < len(self.message):
            letter |= {"length": len(self.message), "sha256": hashlib.sha256(self.message).hexdigest()}
        return json.dumps(letter | _payload(kept)).encode()

    @classmethod
    def decode(cls, letter: bytes) -> "DeadLetter":
        """Read what `encode` wrote. Anything else is its own message: what others left must not hide our letters."""
        fields = _fields(letter)
        reason, message = reason_of(letter), _message(fields)
        if message is None:
            return cls(reason, letter)
        at = fields.get("at")
        at_ms = at if type(at) is int and 0 <= at < LATEST_MS else None
        cause = {name: said for name in CAUSE if isinstance(said := fields.get(name), str) and re.fullmatch(WORD, said)}
        return cls(reason, message, at_ms, is_cut="length" in fields, **cause)


def reason_of(letter: bytes) -> str:
    """Why *letter* was parked, UNREADABLE where it does not say so in a word."""
    if plain := PLAIN_REASON.match(letter):
        return plain[1].decode()
    reason = _fields(letter).get("reason")
    return reason if isinstance(reason, str) and re.fullmatch(WORD, reason) else UNREADABLE


def shorten(letter: bytes) -> bytes | None:
    """*letter* with the beginning of its payload only, and the length and SHA-256 of the whole; None if it is short.

    The reason, the time and the cause stay. What is no letter of ours becomes one.
    """
    fields = _fields(letter)
    message = _message(fields)
    if message is None:
        fields, message = {"reason": reason_of(letter), "at": time.time_ns() // 1_000_000}, letter
    if len(message) <= SHORT_PAYLOAD:
        return None
    short = {name: part for name, part in fields.items() if name in {"reason", "at", "length", "sha256", *CAUSE}}
    short.setdefault("length", len(message))
    short.setdefault("sha256", hashlib.sha256(message).hexdigest())
    encoded = json.dumps(short | _payload(message[:SHORT_PAYLOAD])).encode()
    return encoded if len(encoded) < len(letter) else None


def _fields(letter: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(letter)
    except (ValueError, RecursionError):  # brackets nested thousands deep
        return {}
    return fields if isinstance(fields, dict) else {}


def _message(fields: dict[str, Any]) -> bytes | None:
    text, encoded = fields.get("payload"), fields.get("payload_base64")
    try:
        if isinstance(text, str):
            return text.encode()
        return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except ValueError:  # half of a surrogate pair, or no base64
        return None


def _payload(kept: bytes) -> dict[str, str]:
    try:
        return {"payload": kept.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(kept).decode()}
