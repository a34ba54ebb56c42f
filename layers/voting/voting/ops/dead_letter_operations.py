"""The operations on dead letters: list, requeue, drop."""

import base64
import json
import math
import time
from itertools import islice
from typing import Protocol

from voting.clients import Clients
from voting.ops.arguments import Arguments
from voting.ops.drop import Dropping
from voting.ops.errors import FAILURES, Document, Interrupted, OperationError
from voting.ops.requeue import Requeueing
from voting.queue.dead_letter import REFUSED, UNREADABLE
from voting.queue.dead_letters import DeadLetters, Parked, Place
from voting.vote import REASONS

LONGEST_SHOWN = 2000  # bytes of a payload in a listing: Lambda limits a response to 6 MB
MOST_SHOWN = 1000
MOST_ANSWERED = 4_000_000  # bytes of a listing: a payload of control characters is six times as long in JSON
KNOWN_REASONS = {*REASONS, REFUSED, UNREADABLE}
REQUEUED = 10_000
MOST_REQUEUED = 1_000_000
EVERY = 1_000_000_000  # letters


class Walk(Protocol):
    """Work on the dead letters, page by page."""

    place: Place

    def step(self) -> None: ...

    def document(self) -> Document: ...


def list_dead(clients: Clients, arguments: Arguments) -> Document:
    limit = int(arguments.number("limit", 50, least=1, most=MOST_SHOWN))
    offset = int(arguments.number("offset", 0, least=0, most=1e9))
    letters = DeadLetters(clients.redis())
    reason = _reason(letters, arguments)
    listed: list[Document] = []
    room = MOST_ANSWERED
    for parked in islice(letters.read(reason, offset), limit):
        listed.append(_shown(parked))
        room -= len(json.dumps(listed[-1]))
        if room < 0:  # the caller continues from there, by `offset`
            break
    return {"letters": listed}


def requeue_dead(clients: Clients, arguments: Arguments) -> Document:
    limit = int(arguments.number("limit", REQUEUED, least=1, most=MOST_REQUEUED))
    letters = DeadLetters(clients.redis())
    reason = _reason(letters, arguments)
    place = arguments.cursor() or letters.place(reason, limit)
    return _walk(Requeueing(clients, reason, place, force=arguments.flag("force")), arguments)


def drop_dead(clients: Clients, arguments: Arguments) -> Document:
    letters = DeadLetters(clients.redis())
    reason = _reason(letters, arguments)
    place = arguments.cursor() or letters.place(reason, EVERY)
    return _walk(Dropping(letters, reason, place), arguments)


def _reason(letters: DeadLetters, arguments: Arguments) -> str | None:
    """The argument `reason`. One that is neither ours nor in the list is probably mistyped, and refused."""
    reason = arguments.text("reason")
    if reason is None or reason in KNOWN_REASONS or arguments.cursor():
        return reason
    present = letters.count()
    if reason not in present:
        known = ", ".join(sorted({*KNOWN_REASONS, *present}))
        raise OperationError("unknown_reason", f"There is no dead letter with that reason. The reasons are: {known}.")
    return reason


def _shown(parked: Parked) -> Document:
    letter = parked.letter
    shown: Document = {"reason": letter.reason, "at": letter.at_ms, "cut": letter.is_cut, "bytes": len(letter.message)}
    shown |= {name: value for name, value in (("sqlstate", letter.sqlstate), ("error", letter.error)) if value}
    beginning = letter.message[:LONGEST_SHOWN]
    try:
        return shown | {"payload": letter.message.decode()[:LONGEST_SHOWN]}
    except UnicodeDecodeError:
        return shown | {"payload_base64": base64.b64encode(beginning).decode()}


def _walk(walk: Walk, arguments: Arguments) -> Document:
    """Work for `within_s`; return what was done, and a cursor if anything is left to do.

    Raises:
        Interrupted: a store failed. It carries the same document. The step that failed may have been done in full.
    """
    give_up = time.monotonic() + arguments.number("within_s", math.inf, least=0.0, most=math.inf)
    try:
        while not walk.place.is_end:
            walk.step()
            if time.monotonic() >= give_up:
                break
    except FAILURES as error:
        raise Interrupted(_progress(walk)) from error
    return _progress(walk)


def _progress(walk: Walk) -> Document:
    place = walk.place
    cursor = None if place.is_end else f"{place.behind}.{place.left}"
    return {**walk.document(), "cursor": cursor, "remaining": max(0, place.left) if cursor else 0}
