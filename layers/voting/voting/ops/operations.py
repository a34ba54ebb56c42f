"""The operations of the function ops, by name: arguments in, a JSON document or a typed error out."""

from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from voting.clients import Clients
from voting.database.indexes import Indexes
from voting.database.vote_table import VoteTable
from voting.observability import logger
from voting.ops.arguments import Arguments
from voting.ops.dead_letter_operations import drop_dead, list_dead, requeue_dead
from voting.ops.errors import FAILURES, Document, Interrupted, OperationError, operation_error, postgres_error
from voting.ops.handover import HandOver, hand_back, take_over
from voting.ops.preflight.inspect import LONGEST_WATCH_S, inspect
from voting.ops.provisioning import install
from voting.ops.status import read_status


def operate(clients: Clients, event: Mapping[str, Any]) -> Document:
    """Perform the operation of *event*: `{"operation": "status", ...arguments}`.

    Returns `{"operation": ..., "ok": true, "problems": [...], ...}`, or `{"operation": ..., "ok": false, "error":
    {"code", "message"}}` with the part that was done before it failed, if any. Codes: unknown_operation,
    invalid_argument, unknown_reason, invalid_setting, not_installed, not_a_list, busy, still_drained, too_many_queued,
    login_too_powerful, postgres_unavailable, postgres_refused, redis_unavailable.
    """
    name = event.get("operation")
    try:
        document = _perform(clients, name, {key: value for key, value in event.items() if key != "operation"})
    except OperationError as error:
        logger.warning("refused an operation", operation=str(name), code=error.code)
        return {"operation": name, "ok": False, "error": {"code": error.code, "message": error.message}, **error.done}
    logger.info("performed an operation", operation=name)
    return {"operation": name, "ok": True, "problems": [], **document}


def _perform(clients: Clients, name: object, given: Mapping[str, Any]) -> Document:
    if not isinstance(name, str) or name not in OPERATIONS:
        raise OperationError("unknown_operation", f"The operations are: {', '.join(OPERATIONS)}.")
    perform, names = OPERATIONS[name]
    if unknown := sorted(set(given) - names):
        raise OperationError("invalid_argument", f"{name} takes no argument {', '.join(unknown)}")
    try:
        return perform(clients, Arguments(given))
    except Interrupted as error:
        described = operation_error(error.__cause__)
        described.done = error.done
        raise described from error
    except FAILURES as error:
        raise operation_error(error) from error


def _status(clients: Clients, arguments: Arguments) -> Document:
    return read_status(clients, counted=arguments.flag("count"))


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
        described = postgres_error(error)
        message = f"{described} Our worker has already stopped taking votes: run `handback` again until it succeeds."
        raise OperationError(described.code, message) from error


def _takeover(clients: Clients, arguments: Arguments) -> Document:
    def prepare() -> None:
        if clients.owner() is not clients:  # then the login of the worker may not install
            install(clients)

    return _handover(take_over(clients, force=arguments.flag("force"), prepare=prepare))


def _handover(done: HandOver) -> Document:
    return {"changed": done.changed, "returned": done.returned, "waiting": done.waiting}


def _install(clients: Clients, arguments: Arguments) -> Document:
    return dict(install(clients, unless_handed_back=arguments.flag("unless_handed_back")))


def _indexes(clients: Clients, _: Arguments) -> Document:
    connection = clients.owner().postgres()
    connection.leave()  # an index belongs to the owner of its table
    return {"indexes": Indexes(connection).build()}


def _indexes_progress(clients: Clients, _: Arguments) -> Document:
    return {"progress": Indexes(clients.owner().postgres()).progress()}


def _preflight(clients: Clients, arguments: Arguments) -> Document:
    findings = inspect(clients, watch_s=arguments.number("watch_s", 5.0, least=0.02, most=LONGEST_WATCH_S))
    return {
        "findings": [finding.document() for finding in findings],
        "problems": [finding.what for finding in findings if finding.level == "problem"],
    }


# By name: the function that performs it, and the arguments that it takes.
OPERATIONS: dict[str, tuple[Callable[[Clients, Arguments], Document], frozenset[str]]] = {
    "status": (_status, frozenset({"count"})),
    "dead list": (list_dead, frozenset({"reason", "limit", "offset"})),
    "dead requeue": (requeue_dead, frozenset({"reason", "limit", "force", "cursor", "within_s"})),
    "dead drop": (drop_dead, frozenset({"reason", "cursor", "within_s"})),
    "tally verify": (_tally_verify, frozenset({"repair"})),
    "preflight": (_preflight, frozenset({"watch_s"})),
    "takeover": (_takeover, frozenset({"force"})),
    "handback": (_handback, frozenset()),
    "install": (_install, frozenset({"unless_handed_back"})),
    "indexes": (_indexes, frozenset()),
    "indexes progress": (_indexes_progress, frozenset()),
}
