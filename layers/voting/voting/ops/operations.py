"""What an operator can ask of the function ops, by name; arguments in, a JSON document or a typed error out."""

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import psycopg
from redis.exceptions import RedisError

from voting.clients import Clients
from voting.database.indexes import Indexes
from voting.database.logins import LoginTooPowerful
from voting.database.vote_table import VoteTable
from voting.observability import logger
from voting.ops.drop import Dropping
from voting.ops.handover import HandOver, StillDrained, hand_back, take_over
from voting.ops.preflight.inspect import LONGEST_WATCH_S, inspect
from voting.ops.provisioning import install
from voting.ops.requeue import Requeueing
from voting.ops.status import read_status
from voting.queue.dead_letter import REFUSED, UNREADABLE
from voting.queue.dead_letters import DeadLetters, Parked, Place, TooManyQueued
from voting.queue.vote_queue import NotAList
from voting.reason import explain
from voting.settings import InvalidSetting
from voting.vote import REASONS

LONGEST_SHOWN = 2000  # bytes of a payload in a listing: an answer of Lambda holds 6 MB
MOST_SHOWN = 1000
MOST_ANSWERED = 4_000_000  # bytes of them, since a payload of control characters is six times as long in JSON
KNOWN_REASONS = {*REASONS, REFUSED, UNREADABLE}
REQUEUED = 10_000
MOST_REQUEUED = 1_000_000
EVERY = 1_000_000_000  # letters
MISSING = "the worker makes them on its first run, or `install` where its login may not."

Document = dict[str, object]


class OperationRefused(Exception):
    """It was not done. `code` is stable for programs, the message is a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.done: Document = {}  # before it was refused


class BrokenOff(Exception):
    """A store failed, after a part was done; its error is the cause."""

    def __init__(self, done: Document) -> None:
        super().__init__("a store failed midway")
        self.done = done


class Walk(Protocol):
    """Work on the dead letters that goes on page by page."""

    place: Place

    def step(self) -> None: ...

    def document(self) -> Document: ...


@dataclass(frozen=True, slots=True)
class Arguments:
    """What an event holds beside `operation`."""

    given: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        value = self.given.get(name)
        if value is not None and not isinstance(value, str):
            raise OperationRefused("invalid_argument", f"{name} takes a string")
        return value

    def flag(self, name: str) -> bool:
        value = self.given.get(name, False)
        if not isinstance(value, bool):
            raise OperationRefused("invalid_argument", f"{name} takes true or false")
        return value

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self.given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise OperationRefused("invalid_argument", f"{name} takes a number from {least} to {most}")
        return value

    def cursor(self) -> Place | None:
        """Where an earlier answer stopped; None to begin."""
        text = self.text("cursor")
        if text is None:
            return None
        numbers = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", text, re.ASCII)
        if numbers is None:
            raise OperationRefused("invalid_argument", "cursor takes what an earlier answer called so")
        return Place(int(numbers[1]), int(numbers[2]))


def operate(clients: Clients, event: Mapping[str, Any]) -> Document:
    """Do what *event* asks for: `{"operation": "status", ...arguments}`.

    Returns `{"operation": ..., "ok": true, "problems": [...], ...}`, or `{"operation": ..., "ok": false, "error":
    {"code", "message"}}`, with what was done until then where that is something. Codes: unknown_operation,
    invalid_argument, unknown_reason, invalid_setting, not_installed, not_a_list, busy, still_drained, too_many_queued,
    login_too_powerful, postgres_unavailable, postgres_refused, redis_unavailable.
    """
    name = event.get("operation")
    try:
        document = _perform(clients, name, {key: value for key, value in event.items() if key != "operation"})
    except OperationRefused as error:
        logger.warning("refused an operation", operation=str(name), code=error.code)
        return {"operation": name, "ok": False, "error": {"code": error.code, "message": str(error)}, **error.done}
    logger.info("performed an operation", operation=name)
    return {"operation": name, "ok": True, "problems": [], **document}


def _perform(clients: Clients, name: object, given: Mapping[str, Any]) -> Document:
    if not isinstance(name, str) or name not in OPERATIONS:
        raise OperationRefused("unknown_operation", f"The operations are: {', '.join(OPERATIONS)}.")
    perform, names = OPERATIONS[name]
    if unknown := sorted(set(given) - names):
        raise OperationRefused("invalid_argument", f"{name} takes no argument {', '.join(unknown)}")
    try:
        return perform(clients, Arguments(given))
    except BrokenOff as error:
        refused = _refused(error.__cause__)
        refused.done = error.done
        raise refused from error
    except FAILURES as error:
        raise _refused(error) from error


# What the work on the stores may raise. _refused has words for each.
FAILURES = (TooManyQueued, StillDrained, NotAList, InvalidSetting, LoginTooPowerful, RedisError, psycopg.Error)


OWN_WORDS = {InvalidSetting: "invalid_setting", LoginTooPowerful: "login_too_powerful"}


def _refused(error: BaseException | None) -> OperationRefused:
    match error:
        case TooManyQueued():
            return OperationRefused("too_many_queued", "Too many votes wait: try again once they are drained.")
        case StillDrained():
            message = "Somebody takes votes from the list: stop the old worker first, or use force (--force)."
            return OperationRefused("still_drained", message)
        case NotAList():
            return OperationRefused("not_a_list", "The key `votes` is no list: look at it first.")
        case InvalidSetting() | LoginTooPowerful():
            return OperationRefused(OWN_WORDS[type(error)], str(error))
        case psycopg.Error():
            return _refusal(error)
        case RedisError():
            return OperationRefused("redis_unavailable", f"Redis did not do it ({explain(error)}).")
    raise AssertionError(f"an operation raised {type(error).__name__}") from error


def _refusal(error: psycopg.Error) -> OperationRefused:
    why = explain(error)
    match error:
        case psycopg.errors.UndefinedTable():
            return OperationRefused("not_installed", f"A table is missing: {MISSING}")
        case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected():
            return OperationRefused("busy", f"Postgres was busy ({why}): nothing was changed there, try again.")
        case psycopg.OperationalError():
            return OperationRefused("postgres_unavailable", f"Postgres did not do it ({why}).")
    return OperationRefused("postgres_refused", f"Postgres refused it ({why}).")


def _status(clients: Clients, arguments: Arguments) -> Document:
    return read_status(clients, counted=arguments.flag("count"))


def _dead_list(clients: Clients, arguments: Arguments) -> Document:
    limit = int(arguments.number("limit", 50, least=1, most=MOST_SHOWN))
    offset = int(arguments.number("offset", 0, least=0, most=1e9))
    letters = DeadLetters(clients.redis())
    reason = _reason(letters, arguments)
    listed: list[Document] = []
    room = MOST_ANSWERED
    for parked in islice(letters.read(reason, offset), limit):
        listed.append(_shown(parked))
        room -= len(json.dumps(listed[-1]))
        if room < 0:  # whoever asks goes on behind those
            break
    return {"letters": listed}


def _reason(letters: DeadLetters, arguments: Arguments) -> str | None:
    """The reason that is asked for; one that is neither ours nor in the list is more likely mistyped."""
    reason = arguments.text("reason")
    if reason is None or reason in KNOWN_REASONS or arguments.cursor():
        return reason
    there = letters.count()
    if reason not in there:
        known = ", ".join(sorted({*KNOWN_REASONS, *there}))
        raise OperationRefused("unknown_reason", f"No letter is parked for such a reason. The reasons are: {known}.")
    return reason


def _shown(parked: Parked) -> Document:
    letter = parked.letter
    shown: Document = {"reason": letter.reason, "at": letter.at_ms, "cut": letter.is_cut, "bytes": len(letter.message)}
    shown |= {name: said for name, said in (("sqlstate", letter.sqlstate), ("error", letter.error)) if said}
    beginning = letter.message[:LONGEST_SHOWN]
    try:
        return shown | {"payload": letter.message.decode()[:LONGEST_SHOWN]}
    except UnicodeDecodeError:
        return shown | {"payload_base64": base64.b64encode(beginning).decode()}


def _dead_requeue(clients: Clients, arguments: Arguments) -> Document:
    limit = int(arguments.number("limit", REQUEUED, least=1, most=MOST_REQUEUED))
    letters = DeadLetters(clients.redis())
    reason = _reason(letters, arguments)
    place = arguments.cursor() or letters.place(reason, limit)
    return _walked(Requeueing(clients, reason, place, force=arguments.flag("force")), arguments)


def _dead_drop(clients: Clients, arguments: Arguments) -> Document:
    letters = DeadLetters(clients.redis())
    reason = _reason(letters, arguments)
    place = arguments.cursor() or letters.place(reason, EVERY)
    return _walked(Dropping(letters, reason, place), arguments)


def _walked(walk: Walk, arguments: Arguments) -> Document:
    """Go on for `within_s`; answer with what was done, and with a cursor where something is left to do.

    Raises:
        BrokenOff: with as much, where a store fails. A step without an answer may have been done all the same.
    """
    give_up = time.monotonic() + arguments.number("within_s", math.inf, least=0.0, most=math.inf)

    def document() -> Document:
        place = walk.place
        cursor = None if place.is_end else f"{place.behind}.{place.left}"
        return {**walk.document(), "cursor": cursor, "remaining": max(0, place.left) if cursor else 0}

    try:
        while not walk.place.is_end:
            walk.step()
            if time.monotonic() >= give_up:
                break
    except FAILURES as error:
        raise BrokenOff(document()) from error
    return document()


def _tally_verify(clients: Clients, arguments: Arguments) -> Document:
    table = VoteTable(clients.postgres())
    found = table.verify(repair=arguments.flag("repair"))
    problems = []
    if not found.agrees and not found.repaired:
        problems.append("the tally differs from the rows: verify with repair")
    if found.missing_triggers:
        problems.append(f"triggers are missing or disabled: {', '.join(sorted(found.missing_triggers))}")
    return {
        "agrees": found.agrees,
        "repaired": found.repaired,
        "kept": dict(found.kept),
        "counted": dict(found.counted),
        "version": table.tally().version,
        "problems": problems,
    }


def _handback(clients: Clients, _: Arguments) -> Document:
    try:
        return _handover(hand_back(clients))
    except psycopg.Error as error:
        refused = _refusal(error)
        message = f"{refused} Our worker takes no more votes already: run `handback` again until it succeeds."
        raise OperationRefused(refused.code, message) from error


def _takeover(clients: Clients, arguments: Arguments) -> Document:
    def prepare() -> None:
        if clients.owner() is not clients:  # the worker's first run could not
            install(clients)

    return _handover(take_over(clients, force=arguments.flag("force"), prepare=prepare))


def _handover(done: HandOver) -> Document:
    return {"changed": done.changed, "returned": done.returned, "waiting": done.waiting}


def _install(clients: Clients, arguments: Arguments) -> Document:
    return dict(install(clients, unless_handed_back=arguments.flag("unless_handed_back")))


def _indexes(clients: Clients, _: Arguments) -> Document:
    connection = clients.owner().postgres()
    connection.leave()  # an index is its table's owner's
    return {"indexes": Indexes(connection).build()}


def _indexes_progress(clients: Clients, _: Arguments) -> Document:
    return {"progress": Indexes(clients.owner().postgres()).progress()}


def _preflight(clients: Clients, arguments: Arguments) -> Document:
    findings = inspect(clients, watch_s=arguments.number("watch_s", 5.0, least=0.02, most=LONGEST_WATCH_S))
    return {
        "findings": [finding.document() for finding in findings],
        "problems": [finding.what for finding in findings if finding.level == "problem"],
    }


# What performs it, and the arguments that it takes.
OPERATIONS: dict[str, tuple[Callable[[Clients, Arguments], Document], frozenset[str]]] = {
    "status": (_status, frozenset({"count"})),
    "dead list": (_dead_list, frozenset({"reason", "limit", "offset"})),
    "dead requeue": (_dead_requeue, frozenset({"reason", "limit", "force", "cursor", "within_s"})),
    "dead drop": (_dead_drop, frozenset({"reason", "cursor", "within_s"})),
    "tally verify": (_tally_verify, frozenset({"repair"})),
    "preflight": (_preflight, frozenset({"watch_s"})),
    "takeover": (_takeover, frozenset({"force"})),
    "handback": (_handback, frozenset()),
    "install": (_install, frozenset({"unless_handed_back"})),
    "indexes": (_indexes, frozenset()),
    "indexes progress": (_indexes_progress, frozenset()),
}
