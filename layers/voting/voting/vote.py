"""A vote, and its wire format on the Redis list (the contract with the container voting app)."""

import json
import re
from collections.abc import Collection
from typing import NamedTuple

CHOICES = tuple("abcdefghijklmnopqrst")  # the ids of options; a question has the first 2 to 20 of them
LONGEST_ID = 255  # votes.id is VARCHAR(255), which counts characters

# The form of nearly all valid messages: the producers' order of keys, and an ASCII id without escapes. Any other
# message is parsed as JSON, which takes four times as long.
PLAIN = re.compile(
    rb'\{"vote": ?"([%b])", ?"voter_id": ?"([ !#-\[\]-~]{1,%d})"\}' % ("".join(CHOICES).encode(), LONGEST_ID)
)


# Why bytes are not a vote, in the order of the checks.
REASONS = (
    "not_utf8",
    "not_json",
    "not_an_object",
    "missing_field",
    "wrong_type",
    "unknown_choice",
    "empty_id",
    "id_too_long",
    "invalid_id",
)


class InvalidVote(Exception):
    """These bytes are not a vote. `reason` is a stable code for the dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Vote(NamedTuple):
    """One voter's choice."""

    choice: str
    voter_id: str

    def encode(self) -> bytes:
        """The message that producers LPUSH, byte for byte as the container app's `json.dumps` writes it."""
        words = self.choice + self.voter_id
        if words.isascii() and words.isalnum():  # nothing to escape, as in all ids that we issue
            return f'{{"vote": "{self.choice}", "voter_id": "{self.voter_id}"}}'.encode()
        return json.dumps({"vote": self.choice, "voter_id": self.voter_id}).encode()


def parse(message: bytes, choices: Collection[str] = CHOICES) -> Vote:
    """Read a message of the list as a vote for one of *choices*.

    Its keys may come in any order, and there may be others.

    Raises:
        InvalidVote: with one of the REASONS.
    """
    if plain := PLAIN.fullmatch(message):
        vote = Vote(plain[1].decode(), plain[2].decode())
        if vote.choice in choices:
            return vote
    fields = _object(message)
    try:
        choice, voter_id = fields["vote"], fields["voter_id"]
    except KeyError as error:
        raise InvalidVote("missing_field") from error
    if not isinstance(choice, str) or not isinstance(voter_id, str):
        raise InvalidVote("wrong_type")
    if choice not in choices:
        raise InvalidVote("unknown_choice")
    if not voter_id:
        raise InvalidVote("empty_id")
    if len(voter_id) > LONGEST_ID:
        raise InvalidVote("id_too_long")
    if not _storable(voter_id):
        raise InvalidVote("invalid_id")
    return Vote(choice, voter_id)


def _object(message: bytes) -> dict[str, object]:
    try:
        fields = json.loads(message.decode())
    except UnicodeDecodeError as error:
        raise InvalidVote("not_utf8") from error
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested thousands deep
        raise InvalidVote("not_json") from error
    if not isinstance(fields, dict):
        raise InvalidVote("not_an_object")
    return fields


def _storable(text: str) -> bool:
    """Whether Postgres can store it: a NUL or a lone surrogate would make the whole batch fail."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
