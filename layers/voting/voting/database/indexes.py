"""The contract's indexes on a table that is too large to be locked while they are built."""

from typing import LiteralString

import psycopg
from psycopg import sql

from voting.database.location import run
from voting.database.session import Session

# Name, and what a missing one is made of. CREATE INDEX CONCURRENTLY lets everybody write on.
CONTRACT: dict[str, LiteralString] = {
    "idx_votes_id": "CREATE UNIQUE INDEX CONCURRENTLY idx_votes_id ON {} (id)",
    "idx_votes_vote": "CREATE INDEX CONCURRENTLY idx_votes_vote ON {} (vote)",
}

# In the schema of the table, which need not be the first of the search path.
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

# Two operators at once: the second is refused rather than made to wait, since its wait would hold up the first.
ALONE = "SELECT pg_try_advisory_lock(hashtext('voting indexes'))"


class Indexes:
    """What the contract asks for on `votes`: there, built, or repaired."""

    def __init__(self, connection: Session) -> None:
        """Use *connection*, and leave it without statement and lock timeouts where the session is ours."""
        self._connection = connection

    def build(self) -> dict[str, str]:
        """Build what is missing and what an interrupted build left invalid; return what was done, by index.

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
        """The builds under way."""
        names = ("index", "phase", "blocks_done", "blocks_total", "rows_done", "rows_total")
        return [dict(zip(names, row, strict=True)) for row in run(self._connection, PROGRESS).fetchall()]

    def _is_building(self) -> bool:
        """Whether another build is under way; if not, see to it that this one may take its time."""
        if self._connection.is_pooled:  # a lock of the session would outlive us, and no timeout of ours is in force
            return bool(self.progress())
        if self._connection.execute(ALONE).fetchone() != (True,):
            return True
        # A build waits for every transaction that is older than it: minutes, where somebody makes a backup.
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
