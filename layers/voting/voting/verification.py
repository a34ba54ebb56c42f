"""The tally compared with the rows by an operator, and made right while nobody writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg

# An operator's look, by which nobody may write meanwhile. The table is locked first: a TRUNCATE locks it before it
# takes the lock of the tally's writers, and the other way round the two would deadlock.
HOLD_WRITERS = "LOCK TABLE votes IN ACCESS SHARE MODE; SELECT version FROM vote_tally_version FOR UPDATE"
# As the triggers of schema.sql tell choices apart, by 255 characters and byte by byte. Grouped by the column itself it
# takes less than half the time, by the contract's index; but some types and collations take two texts for one.
GROUPED_BY_COLUMN: LiteralString = """
SELECT vote::varchar(255) COLLATE "C" AS vote, sum(rows)::bigint AS votes
FROM (SELECT vote, count(*) AS rows FROM votes GROUP BY vote) AS groups
WHERE vote IS NOT NULL
GROUP BY 1
"""
GROUPED_BY_TEXT: LiteralString = """
SELECT choice AS vote, count(*) AS votes
FROM (SELECT vote::varchar(255) COLLATE "C" AS choice FROM votes) AS choices
WHERE choice IS NOT NULL
GROUP BY choice
"""
IS_TEXT = """
SELECT FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
WHERE attrelid = to_regclass('votes') AND attname = 'vote'
  AND atttypid IN ('varchar'::regtype, 'text'::regtype) AND collisdeterministic
"""
KEPT = "SELECT vote, votes FROM vote_tally WHERE votes <> 0"
DISCARD = "DELETE FROM vote_tally"
KEEP: LiteralString = "INSERT INTO vote_tally "
MOVE = "SELECT vote_tally_moved()"
TRIGGERS = """
SELECT tgname FROM pg_trigger
WHERE tgrelid = to_regclass('votes') AND tgname LIKE 'vote\\_tally\\_%' AND tgenabled IN ('O', 'A')
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
        connection.execute(HOLD_WRITERS)
        kept: dict[str, int] = dict(connection.execute(KEPT).fetchall())
        counted = count(connection)
        missing = missing_triggers(connection)
        repaired = repair and kept != counted
        if repaired:
            recount(connection)
    return Verification(kept, counted, missing, repaired)


def count(connection: psycopg.Connection) -> Mapping[str, int]:
    """How many rows hold which choice, counted one by one."""
    return dict(connection.execute(grouped(connection)).fetchall())


def grouped(connection: psycopg.Connection) -> LiteralString:
    """The query that counts how many rows hold which choice."""
    is_text = connection.execute(IS_TEXT).fetchone() is not None
    return GROUPED_BY_COLUMN if is_text else GROUPED_BY_TEXT


def recount(connection: psycopg.Connection) -> None:
    """Make the tally anew from the rows, in a transaction in which nobody writes."""
    for statement in (DISCARD, KEEP + grouped(connection), MOVE):
        connection.execute(statement)


def missing_triggers(connection: psycopg.Connection) -> frozenset[str]:
    """Those that are removed or disabled: the tally does not follow."""
    return NEEDED_TRIGGERS - {name for (name,) in connection.execute(TRIGGERS).fetchall()}
