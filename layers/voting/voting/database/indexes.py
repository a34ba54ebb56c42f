"""Builds the contract's indexes on a table that is too large to be locked."""

from typing import LiteralString

import psycopg
from psycopg import sql

from voting.database.location import run
from voting.database.session import Session

# Name, and the statement that creates it. CREATE INDEX CONCURRENTLY does not block writers.
CONTRACT: dict[str, LiteralString] = {
    "idx_votes_id": "CREATE UNIQUE INDEX CONCURRENTLY idx_votes_id ON {} (id)",
    "idx_votes_vote": "CREATE INDEX CONCURRENTLY idx_votes_vote ON {} (vote)",
}

# The schema of the table, which need not be the first of the search path.
TABLE = """
SELECT nspname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass({votes_name})::oid
"""
STATE = """
SELECT indisvalid AND indisready FROM pg_index
JOIN pg_class AS made ON made.oid = indexrelid
WHERE indrelid = to_regclass({votes_name})::oid AND made.relname = %s
"""
PROGRESS = """
SELECT coalesce(relname::text, ''), phase, blocks_done, blocks_total, tuples_done, tuples_total
FROM pg_stat_progress_create_index LEFT JOIN pg_class ON pg_class.oid = index_relid
WHERE relid = to_regclass({votes_name})::oid
"""

# Of two operators at once the second is refused, since the first would wait for the transaction of a waiting one.
ALONE = "SELECT pg_try_advisory_lock(hashtext('voting indexes'))"


class Indexes:
    """The indexes that the contract requires on `votes`."""

    def __init__(self, connection: Session) -> None:
        """Use *connection*; a build leaves it without statement and lock timeouts if the session is ours alone."""
        self._connection = connection

    def build(self) -> dict[str, str]:
        """Build missing indexes, and those that an interrupted build left invalid; return what was done, by index.

        Raises:
            psycopg.errors.LockNotAvailable: another such build is under way.
            psycopg.errors.UndefinedTable: there is no table.
            psycopg.errors.UniqueViolation: two rows have one id; no unique index can be built.
        """
        row = run(self._connection, TABLE).fetchone()
        if row is None:
            raise psycopg.errors.UndefinedTable("there is no table votes")
        if self._is_building():
            raise psycopg.errors.LockNotAvailable("another build is under way")
        return {name: self._ensure(row[0], name, statement) for name, statement in CONTRACT.items()}

    def progress(self) -> list[dict[str, object]]:
        """Return the builds in progress."""
        names = ("index", "phase", "blocks_done", "blocks_total", "rows_done", "rows_total")
        return [dict(zip(names, row, strict=True)) for row in run(self._connection, PROGRESS).fetchall()]

    def _is_building(self) -> bool:
        """Whether another build is in progress; if not, take the lock and remove the timeouts."""
        if self._connection.is_pooled:  # a session lock would outlive us, and our timeouts are not in force
            return bool(self.progress())
        if self._connection.execute(ALONE).fetchone() != (True,):
            return True
        # A build waits for every older transaction, such as a backup of many minutes.
        self._connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        return False

    def _ensure(self, schema: str, name: str, statement: LiteralString) -> str:
        row = run(self._connection, STATE, name).fetchone()
        if row is not None and row[0]:
            return "was there"
        if row is not None:
            index = sql.Identifier(schema, name)
            self._connection.execute_alone(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index))
        self._connection.execute_alone(sql.SQL(statement).format(sql.Identifier(schema, "votes")))
        return "built" if row is None else "repaired"
