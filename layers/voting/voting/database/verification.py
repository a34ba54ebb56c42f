"""Compares the tally with the rows for an operator, and corrects it while writers are locked out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from voting.database.location import run

# Locks out writers during an operator's comparison. The table is locked first, as a TRUNCATE does before it takes the
# lock of the tally's writers: in another order the two would deadlock.
HOLD_COLUMNS = "LOCK TABLE {votes} IN ACCESS SHARE MODE"
HOLD_WRITERS = "LOCK TABLE {votes} IN ACCESS SHARE MODE; SELECT version FROM {ours}.vote_tally_version FOR UPDATE"
# Choices are told apart as by the triggers of schema.sql: by 255 characters, byte by byte. Grouping by the column
# itself uses the contract's index and takes less than half the time, but some types and collations treat two texts as
# one.
GROUPED_BY_COLUMN: LiteralString = """
SELECT vote::varchar(255) COLLATE "C" AS vote, sum(rows)::bigint AS votes
FROM (SELECT vote, count(*) AS rows FROM {votes} AS votes GROUP BY vote) AS groups
WHERE vote IS NOT NULL
GROUP BY 1
"""
GROUPED_BY_TEXT: LiteralString = """
SELECT choice AS vote, count(*) AS votes
FROM (SELECT vote::varchar(255) COLLATE "C" AS choice FROM {votes} AS votes) AS choices
WHERE choice IS NOT NULL
GROUP BY choice
"""
# As PostgreSQL prints it, for a type that is not built in: its owner may have created a cast to varchar, which would
# run with our rights. See vote_tally_apply in schema.sql.
GROUPED_AS_PRINTED: LiteralString = """
SELECT choice AS vote, count(*) AS votes
FROM (
    SELECT format('%s', vote)::varchar(255) COLLATE "C" AS choice FROM {votes} AS votes WHERE num_nonnulls(vote) = 1
) AS choices
GROUP BY choice
"""
# Whether the column is a text with a deterministic collation, and whether its type is built in, or a domain of one.
KIND = """
WITH RECURSIVE kind (oid) AS (
    SELECT atttypid FROM pg_attribute WHERE attrelid = to_regclass({votes_name})::oid AND attname = 'vote'::name
    UNION ALL
    SELECT typbasetype FROM kind JOIN pg_type USING (oid) WHERE typtype = 'd'::"char"
)
SELECT EXISTS (
    SELECT FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE attrelid = to_regclass({votes_name})::oid AND attname = 'vote'::name
      AND atttypid IN ('varchar'::regtype::oid, 'text'::regtype::oid) AND collisdeterministic
), EXISTS (SELECT FROM kind JOIN pg_type USING (oid) WHERE typtype <> 'd'::"char" AND kind.oid < 16384::oid)
"""
KEPT = "SELECT vote, votes FROM {ours}.vote_tally WHERE votes <> 0::bigint"
DISCARD = "DELETE FROM {ours}.vote_tally"
KEEP: LiteralString = "INSERT INTO {ours}.vote_tally "
MOVE: LiteralString = """
UPDATE {ours}.vote_tally_version
SET version = greatest(version + 1::bigint, (extract(epoch FROM clock_timestamp()) * 1000::numeric)::bigint)
"""
TRIGGERS = """
SELECT tgname::text FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = to_regclass({votes_name})::oid AND tgenabled IN ('O', 'A')
  AND pronamespace = to_regnamespace({ours_name})::oid
"""
NEEDED_TRIGGERS = frozenset(f"vote_tally_{when}" for when in ("before", "insert", "update", "delete", "truncate"))


@dataclass(frozen=True, slots=True)
class Verification:
    """The tally as kept and as counted from the rows, at one moment."""

    kept: Mapping[str, int]
    counted: Mapping[str, int]
    missing_triggers: frozenset[str]  # removed or disabled, so that the tally does not follow
    repaired: bool

    @property
    def agrees(self) -> bool:
        return self.kept == self.counted


def verify(connection: psycopg.Connection, *, repair: bool) -> Verification:
    """Compare the tally with the rows while writers are locked out; with *repair*, correct it before they go on."""
    with connection.transaction():
        run(connection, HOLD_WRITERS)
        kept: dict[str, int] = dict(run(connection, KEPT).fetchall())
        counted = count(connection)
        missing = missing_triggers(connection)
        repaired = repair and kept != counted
        if repaired:
            recount(connection)
    return Verification(kept, counted, missing, repaired)


def count(connection: psycopg.Connection) -> Mapping[str, int]:
    """Count the rows of each choice one by one."""
    with connection.transaction():
        run(connection, HOLD_COLUMNS)
        return dict(run(connection, grouped(connection)).fetchall())


def grouped(connection: psycopg.Connection) -> LiteralString:
    """Return the query that counts the rows of each choice.

    Call it and run the query in one transaction that holds the table: the column's type must not change in between.
    """
    is_text, is_of_the_server = run(connection, KIND).fetchone() or (False, False)
    if is_text:
        return GROUPED_BY_COLUMN
    return GROUPED_BY_TEXT if is_of_the_server else GROUPED_AS_PRINTED


def recount(connection: psycopg.Connection) -> None:
    """Rebuild the tally from the rows, in a transaction that locks out writers."""
    for statement in (DISCARD, KEEP + grouped(connection), MOVE):
        run(connection, statement)


def missing_triggers(connection: psycopg.Connection) -> frozenset[str]:
    """Return the triggers that are removed or disabled, so that the tally does not follow."""
    return NEEDED_TRIGGERS - {name for (name,) in run(connection, TRIGGERS).fetchall()}
