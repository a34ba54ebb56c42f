"""A dead letter: a message that could not be counted, parked for an operator."""

import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any

REFUSED = "refused_by_database"  # the reason of votes that the database refused; their SQLSTATE is another field

LONGEST_DEAD_PAYLOAD = 64 * 1024
SHORT_PAYLOAD = 200  # bytes that are kept of a payload when the list is full
CAUSE = ("sqlstate", "error")
LATEST_MS = 10**14  # a greater number is not taken for a time
UNREADABLE = "unreadable"  # the reason of an entry that states none, whichever program left it

# As in scripts/shared/reason_of.lua. Our reasons are such words; nothing else is shown to an operator.
WORD = r"[A-Za-z0-9_.:-]{1,64}"
PLAIN_REASON = re.compile(rb'\{"reason": "(%b)"' % WORD.encode())


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be counted, and why."""

    reason: str
    message: bytes  # only its beginning if is_cut
    at_ms: int | None = None  # when it was parked; None before it is
    is_cut: bool = False
    sqlstate: str | None = None  # if the database refused it
    error: str | None = None  # the class of the error that the database or its client raised

    def encode(self) -> bytes:
        """Return JSON with `reason`, `at` (ms since the epoch) and `payload` (not UTF-8: `payload_base64`).

        A vote that the database refused also has `error`, and `sqlstate` if there was one. A payload over 64 KB is cut;
        then `length` (bytes) and `sha256` describe the whole.
        """
        letter: dict[str, object] = {"reason": self.reason, "at": time.time_ns() // 1_000_000}
        letter |= {name: said for name in CAUSE if (said := getattr(self, name)) is not None}
        kept = self.message[:LONGEST_DEAD_PAYLOAD]
        if len(kept) < len(self.message):
            letter |= {"length": len(self.message), "sha256": hashlib.sha256(self.message).hexdigest()}
        return json.dumps(letter | _payload(kept)).encode()

    @classmethod
    def decode(cls, letter: bytes) -> "DeadLetter":
        """Read what `encode` wrote. Anything else is its own message: foreign entries must not hide ours."""
        fields = _fields(letter)
        reason, message = reason_of(letter), _message(fields)
        if message is None:
            return cls(reason, letter)
        at = fields.get("at")
        at_ms = at if type(at) is int and 0 <= at < LATEST_MS else None
        cause = {name: said for name in CAUSE if isinstance(said := fields.get(name), str) and re.fullmatch(WORD, said)}
        return cls(reason, message, at_ms, is_cut="length" in fields, **cause)


def reason_of(letter: bytes) -> str:
    """Return why *letter* was parked; UNREADABLE if it does not say so in one word."""
    if plain := PLAIN_REASON.match(letter):
        return plain[1].decode()
    reason = _fields(letter).get("reason")
    return reason if isinstance(reason, str) and re.fullmatch(WORD, reason) else UNREADABLE


def shorten(letter: bytes) -> bytes | None:
    """Return *letter* with a short payload, and the length and SHA-256 of the whole; None if it is short already.

    The reason, the time and the cause are kept. A foreign entry becomes a letter of ours.
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
    except ValueError:  # half of a surrogate pair, or invalid base64
        return None


def _payload(kept: bytes) -> dict[str, str]:
    try:
        return {"payload": kept.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(kept).decode()}
