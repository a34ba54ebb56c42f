"""Compares the tally with the rows at the beginning of a run, as often as the cost allows.

The triggers of schema.sql see every ordinary write. They miss a restore with triggers disabled, a session in the role
of a replica, and any write to the tally itself, such as a restore of all tables makes.
"""

from dataclasses import dataclass
from datetime import datetime
from logging import ERROR

import psycopg

from voting.database.location import run
from voting.database.verification import HOLD_COLUMNS, KEPT, MOVE, grouped, verify
from voting.observability import tell

LONGEST_S = 10.0  # a table that takes longer is left to an operator, whose repair has no such limit

# `shape` changes when the tables are replaced, rewritten or restored. It names the tables and their files, the last
# change of each trigger (pg_dump disables and enables them) and the rows added to the tally: one per choice, which is
# only updated from then on. `writes` changes with every write, by any client. The server publishes these numbers within
# a second and forgets them in a crash, so they only ever say that something moved.
LOOK = """
WITH ours AS (
    SELECT pg_class.oid, relname FROM pg_class WHERE pg_class.oid IN (
        to_regclass({votes_name})::oid, to_regclass({ours_name} || '.vote_tally')::oid
    )
), now AS (
    SELECT concat_ws(
               ' ',
               string_agg(concat_ws('.', oid, pg_relation_filenode(oid)), ' ' ORDER BY oid),
               (SELECT string_agg(xmin::text, '.' ORDER BY tgname) FROM pg_trigger
                WHERE tgrelid IN (SELECT oid FROM ours) AND starts_with(tgname::text, 'vote_tally_')),
               sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_deleted(oid))
                   FILTER (WHERE relname = 'vote_tally')
           ) AS shape,
           sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid))
               ::text AS writes
    FROM ours
)
SELECT clock_timestamp(), shape, writes, shape <> compared_shape AS is_reshaped,
       writes <> compared_writes AND clock_timestamp() > compared_at + 1000::float8 * comparing_took AS is_due,
       isfinite(compared_at)
           AND to_timestamp(version::float8 / 1000::float8) > compared_at - interval '5 s' AS has_moved
FROM now, {ours}.vote_worker_fence, {ours}.vote_tally_version
"""

# One statement, hence one snapshot, in which the triggers have counted every row: no writer has to wait.
AGREES = """
SELECT NOT EXISTS (
    SELECT FROM counted FULL JOIN kept USING (vote) WHERE counted.votes IS DISTINCT FROM kept.votes
)
"""
BOUND = "SELECT set_config('statement_timeout', %s, true)"
REPAIR_AS = "SET LOCAL ROLE NONE; SET LOCAL statement_timeout = '60s'"  # a run's role may not write the tally

NOTE = """
UPDATE {ours}.vote_worker_fence
SET compared_shape = %s, compared_writes = %s, compared_at = clock_timestamp(),
    comparing_took = clock_timestamp() - %s
"""


@dataclass(frozen=True, slots=True)
class _Look:
    at: datetime
    shape: str
    writes: str
    is_reshaped: bool
    is_due: bool
    has_moved: bool  # the version moved since the last comparison, or just before it: statistics come late


def compare(connection: psycopg.Connection, longest_s: float = LONGEST_S) -> bool:
    """Correct the tally if it differs from the rows; return whether its version moved.

    If the tables look replaced or restored, the rows are counted at once; otherwise after writes, in a thousandth of
    the time at most. A count that takes more than *longest_s* is given up.

    Raises:
        psycopg.OperationalError: the database is down, or writers held the tables for too long.
    """
    row = run(connection, LOOK).fetchone()
    if row is None:
        return False
    seen = _Look(*row)
    if not seen.is_reshaped and not seen.is_due:
        return False
    agrees = _agrees(connection, longest_s)
    if agrees is False:
        _repair(connection)
    elif seen.is_reshaped and not seen.has_moved:
        run(connection, MOVE)  # the tally was perhaps restored past the triggers, and its version was not
    run(connection, NOTE, seen.shape, seen.writes, seen.at)
    return agrees is False or (seen.is_reshaped and not seen.has_moved)


def _agrees(connection: psycopg.Connection, longest_s: float) -> bool | None:
    """Whether the tally agrees with the rows; None if it takes longer than *longest_s* to find out."""
    try:
        with connection.transaction():
            connection.execute(BOUND, (f"{longest_s * 1000:.0f}ms",))
            run(connection, HOLD_COLUMNS)
            both = "WITH counted AS (" + grouped(connection) + "), kept AS (" + KEPT + ")" + AGREES
            return run(connection, both).fetchone() == (True,)
    except psycopg.errors.QueryCanceled:
        tell("counting the rows takes too long: the tally is not compared with them, run `tally verify`", level=ERROR)
        return None


def _repair(connection: psycopg.Connection) -> None:
    try:
        with connection.transaction():
            connection.execute(REPAIR_AS)
            found = verify(connection, repair=True)
    except psycopg.errors.InsufficientPrivilege:
        tell(
            "the tally differs from the rows, and our login may not write it: run `tally verify --repair`", level=ERROR
        )
        return
    kept, counted = sum(found.kept.values()), sum(found.counted.values())
    tell("the tally differed from the rows, and was counted again", level=ERROR, kept=kept, counted=counted)
