"""What the whole system must amount to: the messages of the list, taken one by one, oldest first.

No part of the product, and it imports nothing of it: what is a vote is said here once more, in other words.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LONGEST_ID = 255
LONGEST_PAYLOAD = 64 * 1024


@dataclass
class Sequential:
    """The rows and the dead letters that *messages* leave, oldest message first, where *options* can be chosen."""

    options: str = "ab"
    rows: dict[str, str] = field(default_factory=dict)
    dead: list[tuple[str, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, messages: Iterable[bytes], options: str = "ab") -> "Sequential":
        model = cls(options)
        for message in messages:
            model.take(message)
        return model

    def take(self, message: bytes) -> None:
        reason, vote = judge(message, self.options)
        if reason:
            self.dead.append((reason, message))
        else:
            self.rows[vote["voter_id"]] = vote["vote"]

    @property
    def tally(self) -> dict[str, int]:
        return dict(Counter(self.rows.values()))


def judge(message: bytes, options: str = "ab") -> tuple[str | None, Any]:
    """Why *message* is no vote, or None; and what it says."""
    try:
        said = json.loads(message.decode())
    except UnicodeDecodeError:
        return "not_utf8", None
    except (ValueError, RecursionError):
        return "not_json", None
    if type(said) is not dict:
        return "not_an_object", said
    if not {"vote", "voter_id"} <= said.keys():
        return "missing_field", said
    if type(said["vote"]) is not str or type(said["voter_id"]) is not str:
        return "wrong_type", said
    return next((reason for reason, holds in _flaws(said["vote"], said["voter_id"], options) if holds), None), said


def _flaws(choice: str, voter_id: str, options: str) -> list[tuple[str, bool]]:
    try:
        encodable = voter_id.encode() is not None
    except UnicodeEncodeError:  # half a surrogate pair
        encodable = False
    return [
        ("unknown_choice", choice not in set(options)),
        ("empty_id", not voter_id),
        ("id_too_long", len(voter_id) > LONGEST_ID),
        ("invalid_id", "\0" in voter_id or not encodable),
    ]


def opened(letter: bytes) -> tuple[str, bytes]:
    """The reason and the payload of a dead letter, which holds the message as it was."""
    fields = json.loads(letter)
    assert isinstance(fields["at"], int)
    payload = fields["payload"].encode() if "payload" in fields else base64.b64decode(fields["payload_base64"])
    return fields["reason"], payload


def assert_kept(letter: bytes, reason: str, message: bytes) -> None:
    """A dead letter tells *reason*, and the whole *message* or its first 64 KB with its length and hash."""
    assert opened(letter) == (reason, message[:LONGEST_PAYLOAD])
    fields = json.loads(letter)
    cut = {"length": len(message), "sha256": hashlib.sha256(message).hexdigest()}
    assert {name: fields[name] for name in cut if name in fields} == (cut if len(message) > LONGEST_PAYLOAD else {})
