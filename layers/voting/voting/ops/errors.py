"""The error that an operation is answered with, and the failures that it is made of."""

import psycopg
from redis.exceptions import RedisError

from voting.database.logins import LoginTooPowerful
from voting.ops.handover import StillDrained
from voting.public_error import PublicError
from voting.queue.dead_letters import TooManyQueued
from voting.queue.vote_queue import NotAList
from voting.reason import explain
from voting.settings import InvalidSetting

MISSING = "the worker creates them on its first run, or `install` if the worker's login may not."

Document = dict[str, object]


class OperationError(PublicError):
    """The operation was not completed. `done` is the part that was done before it failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.done: Document = {}


class Interrupted(Exception):
    """A store failed after a part of the work was done. The store's error is the cause."""

    def __init__(self, done: Document) -> None:
        super().__init__("a store failed midway")
        self.done = done


# What work on the stores may raise, and `operation_error` can describe.
FAILURES = (TooManyQueued, StillDrained, NotAList, InvalidSetting, LoginTooPowerful, RedisError, psycopg.Error)

OWN_MESSAGE = {InvalidSetting: "invalid_setting", LoginTooPowerful: "login_too_powerful"}


def operation_error(error: BaseException | None) -> OperationError:
    """Describe *error*, one of FAILURES, to an operator."""
    match error:
        case TooManyQueued():
            return OperationError("too_many_queued", "Too many votes wait: try again once they are drained.")
        case StillDrained():
            message = "Another worker takes votes from the list: stop it first, or use force (--force)."
            return OperationError("still_drained", message)
        case NotAList():
            return OperationError("not_a_list", "The key `votes` is not a list: find out what uses it.")
        case InvalidSetting() | LoginTooPowerful():
            return OperationError(OWN_MESSAGE[type(error)], str(error))
        case psycopg.Error():
            return postgres_error(error)
        case RedisError():
            return OperationError("redis_unavailable", f"Redis failed ({explain(error)}).")
    raise AssertionError(f"an operation raised {type(error).__name__}") from error


def postgres_error(error: psycopg.Error) -> OperationError:
    """Describe an *error* of Postgres to an operator."""
    why = explain(error)
    match error:
        case psycopg.errors.UndefinedTable():
            return OperationError("not_installed", f"A table is missing: {MISSING}")
        case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected():
            return OperationError("busy", f"Postgres was busy ({why}): nothing was changed there, try again.")
        case psycopg.OperationalError():
            return OperationError("postgres_unavailable", f"Postgres failed ({why}).")
    return OperationError("postgres_refused", f"Postgres refused it ({why}).")
