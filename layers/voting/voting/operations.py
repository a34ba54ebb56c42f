"""What an operator can ask of the function ops, by name; arguments in, a JSON document or a typed error out."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psycopg
from redis.exceptions import RedisError

from voting.clients import Clients
from voting.dead_letters import DeadLetters, Parked, TooManyQueued
from voting.handover import HandOver, StillDrained, hand_back, take_over
from voting.indexes import Indexes
from voting.observability import logger
from voting.preflight import LONGEST_WATCH_S, inspect
from voting.requeueing import requeue
from voting.roles import leave
from voting.settings import InvalidSetting
from voting.status import read_status
from voting.tally import VoteTable
from voting.vote_queue import NotAList

LONGEST_SHOWN = 2000  # bytes of a payload in a listing: an answer of Lambda holds 6 MB
MOST_SHOWN = 1000
MOST_REQUEUED = 10_000
DROP_AT_ONCE = 500

Document = dict[str, object]


class OperationRefused(Exception):
    """It was not done. `code` is stable for programs, the message is a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


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


def operate(clients: Clients, event: Mapping[str, Any]) -> Document:
    """Do what *event* asks for: `{"operation": "status", ...arguments}`.

    Returns `{"operation": ..., "ok": true, "problems": [...], ...}`, or `{"operation": ..., "ok": false, "error":
    {"code", "message"}}`. Codes: unknown_operation, invalid_argument, invalid_setting, not_installed, not_a_list, busy,
    still_drained, too_many_queued, postgres_unavailable, postgres_refused, redis_unavailable.
    """
    name = event.get("operation")
    try:
        document = _perform(clients, name, {key: value for key, value in event.items() if key != "operation"})
    except OperationRefused as error:
        logger.warning("refused an operation", operation=str(name), code=error.code)
        return {"operation": name, "ok": False, "error": {"code": error.code, "message": str(error)}}
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
    except TooManyQueued as error:
        raise OperationRefused("too_many_queued", "Too many votes wait: try again once they are drained.") from error
    except StillDrained as error:
        message = "Somebody takes votes from the list: stop the old worker first, or use force."
        raise OperationRefused("still_drained", message) from error
    except NotAList as error:
        raise OperationRefused("not_a_list", "The key `votes` is no list: look at it first.") from error
    except InvalidSetting as error:
        raise OperationRefused("invalid_setting", str(error)) from error
    except RedisError as error:
        raise OperationRefused("redis_unavailable", f"Redis did not do it ({type(error).__name__}).") from error
    except psycopg.Error as error:
        raise _refusal(error) from error


def _refusal(error: psycopg.Error) -> OperationRefused:
    what = type(error).__name__
    match error:
        case psycopg.errors.UndefinedTable():
            return OperationRefused("not_installed", "A table is missing: the worker makes them on its first run.")
        case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected():
            return OperationRefused("busy", f"Postgres was busy ({what}): nothing was changed there, try again.")
        case psycopg.OperationalError():
            return OperationRefused("postgres_unavailable", f"Postgres did not do it ({what}).")
    return OperationRefused("postgres_refused", f"Postgres refused it ({what}).")


def _status(clients: Clients, arguments: Arguments) -> Document:
    return read_status(clients, counted=arguments.flag("count"))


def _dead_list(clients: Clients, arguments: Arguments) -> Document:
    limit = int(arguments.number("limit", 50, least=1, most=MOST_SHOWN))
    offset = int(arguments.number("offset", 0, least=0, most=1e9))
    letters = DeadLetters(clients.redis()).read(arguments.text("reason"))
    return {"letters": [_shown(parked) for parked in islice(letters, offset, offset + limit)]}


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
    limit = int(arguments.number("limit", MOST_REQUEUED, least=1, most=MOST_REQUEUED))
    done = requeue(clients, reason=arguments.text("reason"), limit=limit, force=arguments.flag("force"))
    return {"requeued": done.moved, "left": {why: count for why, count in done.left.items() if count}}


def _dead_drop(clients: Clients, arguments: Arguments) -> Document:
    letters = DeadLetters(clients.redis())
    found = list(letters.read(arguments.text("reason")))
    pages = (found[start : start + DROP_AT_ONCE] for start in range(0, len(found), DROP_AT_ONCE))
    return {"dropped": sum(letters.drop(page) for page in pages)}


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
    return _handover(hand_back(clients))


def _takeover(clients: Clients, arguments: Arguments) -> Document:
    return _handover(take_over(clients, force=arguments.flag("force")))


def _handover(done: HandOver) -> Document:
    return {"changed": done.changed, "returned": done.returned, "waiting": done.waiting}


def _indexes(clients: Clients, _: Arguments) -> Document:
    connection = clients.postgres()
    leave(connection)  # an index is its table's owner's
    return {"indexes": Indexes(connection).build()}


def _indexes_progress(clients: Clients, _: Arguments) -> Document:
    return {"progress": Indexes(clients.postgres()).progress()}


def _preflight(clients: Clients, arguments: Arguments) -> Document:
    findings = inspect(clients, watch_s=arguments.number("watch_s", 5.0, least=0.1, most=LONGEST_WATCH_S))
    return {
        "findings": [finding.document() for finding in findings],
        "problems": [finding.what for finding in findings if finding.level == "problem"],
    }


# What performs it, and the arguments that it takes.
OPERATIONS: dict[str, tuple[Callable[[Clients, Arguments], Document], frozenset[str]]] = {
    "status": (_status, frozenset({"count"})),
    "dead list": (_dead_list, frozenset({"reason", "limit", "offset"})),
    "dead requeue": (_dead_requeue, frozenset({"reason", "limit", "force"})),
    "dead drop": (_dead_drop, frozenset({"reason"})),
    "tally verify": (_tally_verify, frozenset({"repair"})),
    "preflight": (_preflight, frozenset({"watch_s"})),
    "takeover": (_takeover, frozenset({"force"})),
    "handback": (_handback, frozenset()),
    "indexes": (_indexes, frozenset()),
    "indexes progress": (_indexes_progress, frozenset()),
}
