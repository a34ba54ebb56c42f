"""The tally compared with the rows by an operator, and made right while nobody writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from voting.database.location import run

# An operator's look, by which nobody may write meanwhile. The table is locked first: a TRUNCATE locks it before it
# takes the lock of the tally's writers, and the other way round the two would deadlock.
HOLD_COLUMNS = "LOCK TABLE {votes} IN ACCESS SHARE MODE"
HOLD_WRITERS = "LOCK TABLE {votes} IN ACCESS SHARE MODE; SELECT version FROM {ours}.vote_tally_version FOR UPDATE"
# As the triggers of schema.sql tell choices apart, by 255 characters and byte by byte. Grouped by the column itself it
# takes less than half the time, by the contract's index; but some types and collations take two texts for one.
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
# As PostgreSQL prints it, for a type that is no part of the server: its owner may have made a cast to varchar, which
# would run with our rights. See vote_tally_apply in schema.sql.
GROUPED_AS_PRINTED: LiteralString = """
SELECT choice AS vote, count(*) AS votes
FROM (
    SELECT format('%s', vote)::varchar(255) COLLATE "C" AS choice FROM {votes} AS votes WHERE num_nonnulls(vote) = 1
) AS choices
GROUP BY choice
"""
# Whether it is a text whose collation tells texts apart, and whether it is a type of the server, or a domain of one.
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
    """The tally as it is kept and as the rows are, of one moment."""

    kept: Mapping[str, int]
    counted: Mapping[str, int]
    missing_triggers: frozenset[str]  # removed or disabled: the tally does not follow
    repaired: bool

    @property
    def agrees(self) -> bool:
        return self.kept == self.counted


def verify(connection: psycopg.Connection, *, repair: bool) -> Verification:
    """Compare the tally with the rows while nobody writes; with *repair*, make it right before anybody does."""
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
    """How many rows hold which choice, counted one by one."""
    with connection.transaction():
        run(connection, HOLD_COLUMNS)
        return dict(run(connection, grouped(connection)).fetchall())


def grouped(connection: psycopg.Connection) -> LiteralString:
    """The query that counts how many rows hold which choice.

    To be asked for and run in one transaction that holds the table: the column must not become another's type between.
    """
    is_text, is_of_the_server = run(connection, KIND).fetchone() or (False, False)
    if is_text:
        return GROUPED_BY_COLUMN
    return GROUPED_BY_TEXT if is_of_the_server else GROUPED_AS_PRINTED


def recount(connection: psycopg.Connection) -> None:
    """Make the tally anew from the rows, in a transaction in which nobody writes."""
    for statement in (DISCARD, KEEP + grouped(connection), MOVE):
        run(connection, statement)


def missing_triggers(connection: psycopg.Connection) -> frozenset[str]:
    """Those that are removed or disabled: the tally does not follow."""
    return NEEDED_TRIGGERS - {name for (name,) in run(connection, TRIGGERS).fetchall()}
