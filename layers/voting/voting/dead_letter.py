"""A dead letter: a message that is no vote, as it is parked for an operator to look at."""

import base64
import hashlib
import json
import time
from dataclasses import dataclass

LONGEST_DEAD_PAYLOAD = 64 * 1024
CAUSE = ("sqlstate", "error")


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
        try:
            letter["payload"] = kept.decode()
        except UnicodeDecodeError:
            letter["payload_base64"] = base64.b64encode(kept).decode()
        return json.dumps(letter).encode()

    @classmethod
    def decode(cls, letter: bytes) -> "DeadLetter":
        """Read what `encode` wrote."""
        fields = json.loads(letter)
        payload = fields.get("payload")
        message = payload.encode() if payload is not None else base64.b64decode(fields["payload_base64"])
        cause = {name: fields.get(name) for name in CAUSE}
        return cls(fields["reason"], message, fields["at"], is_cut="length" in fields, **cause)
