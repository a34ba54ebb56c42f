"""Steps of the product as they show in the bytes between it and a store: a claim, a commit, a refusal.

A reader belongs to one connection and is given every chunk of it, in order. The product's clients wait for each answer
before they send the next command, so a chunk holds one step at most.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

FENCE = b"{votes}:fence"
CLAIM_ARGUMENTS = 6  # token, votes to acknowledge, most votes, most bytes, two names of claims; then the dead letters
LOOK_AHEAD_ARGUMENTS = 3  # votes to pass over, most votes, most bytes
PUSH = b"\r\n$1\r\n3\r\n$5\r\nvotes\r\n$16\r\n{votes}:progress\r\n"  # how many keys, and the first two
CLAIM_STATUS = {b"superseded": "refused", b"handed out again": "handed out again"}  # of a claim that was given nothing
VOTER = re.compile(rb'"voter_id": "([0-9a-f]+)"')


class Way(IntEnum):
    """Which way a chunk goes."""

    TO_STORE = 0
    TO_CLIENT = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """A step that was seen. *data* is the chunk that showed it."""

    name: str
    data: bytes = b""
    token: int = 0  # of a claim: the run's
    count: int = 0  # of a claim: votes acknowledged; of its answer: votes handed out

    def voters(self) -> list[str]:
        """The ids of the votes in it, in order."""
        return [voter.decode() for voter in VOTER.findall(self.data)]


class Reader(Protocol):
    """Finds marks in one connection."""

    def read(self, way: Way, data: bytes) -> Mark | None: ...


class RedisReader:
    """claim: claimed, idle, refused or handed out again; look ahead: seen ahead; push: pushed or late."""

    def __init__(self) -> None:
        self._asked: Mark | None = None

    def read(self, way: Way, data: bytes) -> Mark | None:
        if way is Way.TO_CLIENT:
            asked, self._asked = self._asked, None
            return self._answer(asked, data) if asked is not None else None
        self._asked = None
        if b"EVALSHA" not in data[:24]:
            return None
        if FENCE in data:
            words = data.split(b"\r\n")[2::2]  # EVALSHA, its hash, how many keys, the keys, the arguments
            arguments = words[3 + int(words[2]) :]
            if len(arguments) >= CLAIM_ARGUMENTS:  # not one of the other scripts that look at the fence
                self._asked = Mark("claim", data, int(arguments[0]), int(arguments[1]))
            elif len(arguments) == LOOK_AHEAD_ARGUMENTS:
                self._asked = Mark("look ahead", data)
        elif PUSH in data:
            self._asked = Mark("push", data)
        return self._asked

    def _answer(self, asked: Mark, data: bytes) -> Mark | None:
        if data.startswith(b"-"):  # NOSCRIPT, and whatever else Redis refuses
            return None
        if asked.name == "push":
            return Mark("late" if data.startswith(b"$8\r\ntoo late\r\n") else "pushed", asked.data)
        items = int(data[1 : data.index(b"\r\n")])
        if asked.name == "look ahead":
            return Mark("seen ahead", data, count=items - 1)
        if items > 1:
            return Mark("claimed", data, asked.token, items - 1)
        return Mark(CLAIM_STATUS.get(data.split(b"\r\n")[2], "idle"), data, asked.token)


class PostgresReader:
    """begin, upserted, commit, committed; or rollback. The tags are those of the protocol's CommandComplete."""

    def __init__(self) -> None:
        self._in_transaction = False

    def read(self, way: Way, data: bytes) -> Mark | None:
        if way is Way.TO_STORE:
            if b"BEGIN\0" in data:
                self._in_transaction = True
                return Mark("begin")
            if self._in_transaction:
                return _first(data, {b"COMMIT\0": "commit", b"ROLLBACK\0": "rollback"})
            return None
        if not self._in_transaction:
            return None
        mark = _first(data, {b"INSERT 0 ": "upserted", b"COMMIT\0": "committed", b"ROLLBACK\0": "rolled back"})
        if mark is not None and mark.name != "upserted":
            self._in_transaction = False
        return mark


class PostReader:
    """post: results on their way to one subscriber, as ws_broadcast sends them to the management API."""

    def read(self, way: Way, data: bytes) -> Mark | None:
        return Mark("post") if way is Way.TO_STORE and data.startswith(b"POST ") and b'"results"' in data else None


class PlainReader:
    """Knows no steps."""

    def read(self, _way: Way, _data: bytes) -> Mark | None:
        return None


def _first(data: bytes, names: dict[bytes, str]) -> Mark | None:
    return next((Mark(name) for sign, name in names.items() if sign in data), None)
