"""What an error of a store means. Errors of Postgres and its client are told apart by SQLSTATE, never by text.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import re
from dataclasses import dataclass
from enum import Enum

import psycopg
from redis.exceptions import RedisError

from voting import reason


class Kind(Enum):
    """What the worker does first about an error."""

    RETRY = "try again at once"  # a conflict of two writers
    WAIT = "wait and try again"  # the database is down, busy, full or read-only
    RENEW = "begin the run again"  # the installation or its rights are missing
    REFUSE = "find the message"  # the batch or the table is at fault


# Classes, and single codes of mixed classes. 57014 is among them: the cause of a statement timeout may be a slow
# database, or a trigger that sleeps for one voter. Whether other statements get through shows which: see sieve.py.
RETRIED = {"40001", "40P01"}
WAITED = {
    *("08", "25", "40", "53", "57", "58"),  # connection, transaction state, rollback, resources, operator, system
    *("55006", "55P03"),  # in use, lock not available
}
OF_THE_CLIENT = (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError)  # without a SQLSTATE
RENEWED = {"42P01", "42501", "P0002"}  # undefined table, insufficient privilege, no row of the fence

# The function of a trigger in an error context; the last match is the outermost frame. Unusual names are ignored.
FRAME = re.compile(r"^PL/pgSQL function ([\w.$]+)\([^()]*\) line \d+ at ", re.MULTILINE)

OURS = re.compile(r"(^|\.)vote_tally_\w+$")

ADVICE = {
    "02000": "voting.vote_worker_fence is empty: drop it, and the worker creates it again",
    "0A000": "the table is of a kind, or has a rule, that an upsert does not support: run preflight",
    "21000": "two ids of one batch are equal by the column's type or collation: the contract says VARCHAR(255)",
    "22001": "a column is too short: make id and vote VARCHAR(255)",
    "22P05": "the database's encoding lacks a character of the id: use a database in UTF8",
    "23502": "an additional column is NOT NULL and has no default: give it one",
    "23503": "a foreign key requires a row elsewhere: drop it",
    "23505": "an additional unique index refuses the rows: drop it",
    "23514": "a CHECK constraint refuses the rows: drop it",
    "25006": "the database is read-only: use the address of the writer",
    "42501": "the worker's role lacks a right: GRANT SELECT, INSERT, UPDATE ON votes to it, and look at other triggers "
    "and at row-level security",
    "42703": "a column is missing, in votes or in what a trigger uses: the contract has id and vote",
    "42804": "a column has another type than VARCHAR(255), as the contract says",
    "42883": "a function that the table or a trigger uses is missing",
    "42P01": "a table that a trigger uses is missing",
    "42P10": "no unique index covers id alone, or votes is a view: run `votectl ops indexes`; or a publication's row "
    "filter or column list needs columns that are not in the replica identity: take it out of the publication",
    "53100": "the database's disk is full",
    "55000": "a publication covers updates of votes, and the table has no replica identity: "
    "ALTER TABLE votes REPLICA IDENTITY USING INDEX idx_votes_id",
    "P0001": "a function that a trigger calls raises it: fix the function, or drop the trigger",
    "P0002": "voting.vote_worker_fence is empty: drop it, and the worker creates it again",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """The meaning of one error, without any text of the server, which may quote rows."""

    kind: Kind
    code: str | None  # SQLSTATE; None if the error is not from a server
    name: str  # the exception's class
    objects: tuple[str, ...] = ()  # table, column, constraint and function, if the server names them

    @classmethod
    def of(cls, error: Exception) -> "Fault":
        """Classify *error*, which may be any exception raised by recording votes."""
        if not isinstance(error, psycopg.Error):
            return cls(Kind.REFUSE, None, type(error).__name__)
        code = error.sqlstate
        return cls(_kind(error, code), code, type(error).__name__, _objects(error.diag))

    @property
    def key(self) -> str:
        """Equal for two errors with the same cause."""
        return self.code or self.name

    def sentence(self) -> str:
        """Return what happened, and what to do about it if that is known; for logs and for operators."""
        what = " ".join(word for word in (self.code, self.name) if word)
        where = f" ({', '.join(self.objects)})" if self.objects else ""
        is_raised = any(name.startswith("function ") for name in self.objects)
        advice = ADVICE.get("P0001" if is_raised else self.code or "")
        return f"{what}{where}: {advice}" if advice else f"{what}{where}"


def _kind(error: psycopg.Error, code: str | None) -> Kind:
    if code is None:  # the client could not encode the votes, or the connection broke
        return Kind.REFUSE if isinstance(error, OF_THE_CLIENT) else Kind.WAIT
    if code in RETRIED:
        return Kind.RETRY
    if code in WAITED or code[:2] in WAITED:
        return Kind.WAIT
    return Kind.RENEW if code in RENEWED else Kind.REFUSE


def _objects(diag: psycopg.errors.Diagnostic) -> tuple[str, ...]:
    """Return what the error is about, from fields that hold only names."""
    functions = [name for name in FRAME.findall(diag.context or "") if not OURS.search(name)]
    named = {
        "table": diag.table_name,
        "column": diag.column_name,
        "constraint": diag.constraint_name,
        "function": functions[-1] if functions else None,
    }
    return tuple(f"{kind} {name}" for kind, name in named.items() if name)


def explain(error: Exception) -> str:
    """Tell an operator what keeps votes from being stored and what to do, if known; contains nothing of a row."""
    if reason.is_ours(error):
        return reason.explain(error)
    fault = Fault.of(error)
    is_of_the_batch = fault.kind is not Kind.WAIT and not isinstance(error, RedisError)
    return fault.sentence() if is_of_the_batch or fault.objects or fault.code in ADVICE else reason.explain(error)
