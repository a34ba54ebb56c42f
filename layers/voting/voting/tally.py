"""The Postgres table of votes, the tally that its triggers keep, and the fence of the worker's runs.

schema.sql beside this file creates them.
"""

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, LiteralString

import psycopg

from voting.fence import Superseded
from voting.results import Tally
from voting.vote import CHOICES as OPTIONS
from voting.vote import Vote

# Made by schema.sql, all or nothing: whether the tally follows every write, and whether the newest script made it.
INSTALLED = """
SELECT to_regclass('vote_tally') IS NOT NULL
           AND to_regclass('vote_tally_version') IS NOT NULL
           AND to_regclass('vote_worker_fence') IS NOT NULL
           AND (SELECT count(*) = 5 FROM pg_trigger WHERE tgrelid = to_regclass('votes') AND tgenabled IN ('O', 'A')
                AND tgname IN ('vote_tally_before', 'vote_tally_insert', 'vote_tally_update', 'vote_tally_delete',
                               'vote_tally_truncate')),
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('vote_worker_fence')
               AND attname = 'compared_shape')
"""
WHOLE = "SELECT EXISTS (SELECT FROM vote_tally_version) AND EXISTS (SELECT FROM vote_worker_fence)"

# At least as great as what Redis has seen, should this database come from an older backup.
TAKE_FENCE = "UPDATE vote_worker_fence SET token = greatest(token, %s) + 1 RETURNING token"
# With it, whether a trigger that sees each row first (tgtype: ROW is bit 0, BEFORE bit 1) or a rule for INSERT (3) or
# UPDATE (2) is there that is not ours: either may keep a vote out of the table, or change it.
HOLD_FENCE = """
SELECT token, EXISTS (
    SELECT FROM pg_trigger WHERE tgrelid = to_regclass('votes') AND NOT tgisinternal AND tgenabled <> 'D'
    AND left(tgname, 11) <> 'vote_tally_' AND tgtype & 3 = 3
) OR EXISTS (
    SELECT FROM pg_rewrite WHERE ev_class = to_regclass('votes') AND ev_type IN ('2', '3') AND ev_enabled <> 'D'
)
FROM vote_worker_fence FOR UPDATE OF vote_worker_fence
"""

# Sorted ids: two writers that lock the same rows in different orders deadlock. A row that would not change is not
# written again.
UPSERT = """
INSERT INTO votes (id, vote)
SELECT * FROM unnest(%b::text[], %b::text[])
ON CONFLICT (id) DO UPDATE SET vote = EXCLUDED.vote WHERE votes.vote IS DISTINCT FROM EXCLUDED.vote
"""

# Votes that no row holds. They come as bytes, which hold in any encoding of the client: a trigger may have changed it.
LEFT_OUT = """
SELECT count(*) FROM jsonb_each_text(convert_from(%b, 'UTF8')::jsonb) AS wanted (id, vote)
LEFT JOIN votes ON votes.id = wanted.id
WHERE votes.id IS NULL OR votes.vote::text IS DISTINCT FROM wanted.vote
"""

# What the ids hold now. The planner would read a large table from end to end for thousands of them.
BY_INDEX = "SET LOCAL enable_seqscan = off"
CHOICES = "SELECT id, vote FROM votes WHERE id = ANY(%b::text[])"
CHOICES_BY_LINES = "SELECT id, vote FROM votes WHERE id = ANY(string_to_array(%b, E'\\n'))"  # sent in half the time
COPY = "COPY votes (id, vote) FROM STDIN"
WORTH_COPYING = 1000  # voters: for fewer, the round trips cost more than they save
IN_HASTE = "SET LOCAL statement_timeout = '2s'; SET LOCAL lock_timeout = '1500ms'"
AT_COMMIT = "SET CONSTRAINTS ALL IMMEDIATE"  # what a commit would check
NOT_PLAIN = "\t\n\r\\"  # what COPY's text format would have escaped

# One statement, hence one snapshot: the counts are those of the version.
READ = """
SELECT version, coalesce(jsonb_object_agg(vote, votes) FILTER (WHERE vote IS NOT NULL), '{}')
FROM vote_tally_version LEFT JOIN vote_tally ON votes <> 0
GROUP BY version
"""

OUTGROW = """
UPDATE vote_tally_version
SET version = greatest(version, %s + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
"""

FENCE = "SELECT token FROM vote_worker_fence"
IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM votes)"

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


class RowsLeftOut(Exception):
    """A trigger or a rule that is not ours left out or changed rows without an error: their votes would not count."""

    def __init__(self) -> None:
        super().__init__("a trigger or a rule that is not ours leaves out rows, or changes them: mend it, or drop it")


class TakenNow(Exception):
    """A vote that was refused a moment ago would be stored now: the table was at fault, and has been mended."""


class VoteTable:
    """One row a voter, the last choice; and how many chose what, whoever wrote the rows."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Use *connection*, which must be in autocommit mode."""
        self._connection = connection

    def install(self) -> bool:
        """Create what is missing, disabled or of an older version, and return whether anything was.

        Writers wait while an existing table is counted, which it is where the tally did not follow them until now.

        Raises:
            psycopg.errors.InsufficientPrivilege: the login may not; nothing was changed.
        """
        follows, is_newest = self._installed()
        if follows and is_newest:
            return False
        try:
            self._create(counted=not follows)
        except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
            self._create(counted=True)  # the old worker created the table at the same moment: now it is there
        return True

    def follows(self) -> bool:
        """Whether the tally follows every write, be it installed by this version or an older one."""
        return self._installed()[0]

    def take_fence(self, at_least: int = 0) -> int:
        """Begin a run: return a token that is greater than that of every run before, and than *at_least*."""
        return self._number(TAKE_FENCE, at_least)

    def record(
        self,
        votes: Sequence[Vote],
        token: int,
        meanwhile: Callable[[], object] = lambda: None,
        *,
        in_haste: bool = False,
        refused: Sequence[Vote] = (),
    ) -> int:
        """Store the last choice of each voter of *votes*, which come oldest first; return how many rows changed.

        All or nothing; done again it changes nothing. *meanwhile* is called once, when the database is about to be
        busy for longest: what it starts in another thread takes no time of the interpreter's that is waited for.
        *in_haste* a statement may take 2 s. *refused* votes must be refused again behind them in the same transaction:
        then nothing but the votes themselves can be why they are refused and *votes* are not.

        Raises:
            TakenNow: one of those would be stored; nothing was changed.
            Superseded: a newer run has taken the fence; nothing was changed.
            psycopg.Error: the database is away, or it refuses one of the votes or all; nothing is known to be stored.
                `Fault.of` tells which.
            RowsLeftOut: a stranger's trigger or rule keeps one of the votes or all from the table; nothing was changed.
            UnicodeError, TypeError, ...: the client could make no statement of the votes; nothing was changed.
        """
        last = {vote.voter_id: vote.choice for vote in votes}
        try:
            with self._held(token, in_haste=in_haste) as may_leave_out:
                if len(last) >= WORTH_COPYING and _is_plain(last):
                    changed = self._copy(last, meanwhile)
                else:
                    meanwhile()
                    changed = self._upsert(last)
                if may_leave_out:
                    self._see_to_all(last)
                self._see_refused(refused, may_leave_out=may_leave_out)
                return changed
        except psycopg.errors.UniqueViolation:  # of a writer whom our triggers do not stop: they are off
            with self._held(token, in_haste=in_haste) as may_leave_out:
                changed = self._upsert(last)
                if may_leave_out:
                    self._see_to_all(last)
                return changed

    def try_out(self, token: int, refused: Sequence[Vote] = ()) -> None:
        """Try made-up voters, one of either choice and one who changes its mind, and take all back; 2 s a statement.

        *refused* votes must be refused again behind them in the same transaction.

        Raises:
            TakenNow: a made-up voter's vote and one of those would be stored.
            Superseded: a newer run has taken the fence.
            Exception: what the first of the made-up voters met, where no vote of theirs would be stored.
        """
        one, other = secrets.token_hex(16), secrets.token_hex(16)
        made_up = [Vote(OPTIONS[0], one), Vote(OPTIONS[1], other), Vote(OPTIONS[1], one)]
        with self._connection.transaction(force_rollback=True), self._held(token, in_haste=True) as may_leave_out:
            met = [self._meets(vote, may_leave_out=may_leave_out) for vote in made_up]
            if all(met) and met[0] is not None:
                raise met[0]
            self._see_refused(refused, may_leave_out=may_leave_out)

    @contextmanager
    def _held(self, token: int, *, in_haste: bool = False) -> Iterator[bool]:
        """A transaction of the run that *token* was given to; no newer run begins before its end.

        Yields whether a trigger that is not ours may leave rows out.
        """
        with self._connection.transaction():
            if in_haste:
                self._connection.execute(IN_HASTE, prepare=False)
            held, may_leave_out = self._row(HOLD_FENCE)
            if held != token:
                raise Superseded
            yield may_leave_out

    def _see_refused(self, refused: Sequence[Vote], *, may_leave_out: bool) -> None:
        """Raise TakenNow where one of *refused* would be stored."""
        # What was stored before this keeps a lock of the table: no trigger and no constraint comes or goes any more.
        if not all(self._meets(vote, may_leave_out=may_leave_out) for vote in refused):
            raise TakenNow

    def _meets(self, vote: Vote, *, may_leave_out: bool) -> Exception | None:
        """Store *vote* until the end of the transaction, or return what keeps it from that."""
        last = {vote.voter_id: vote.choice}
        try:
            with self._connection.transaction():
                self._upsert(last)
                if may_leave_out:
                    self._see_to_all(last)
                self._connection.execute(AT_COMMIT)
        except Exception as error:
            if self._connection.closed:
                raise
            return error
        return None

    def _see_to_all(self, last: Mapping[str, str]) -> None:
        """Raise RowsLeftOut where the table does not hold a vote of *last*."""
        self._connection.execute(BY_INDEX)
        if self._number(LEFT_OUT, json.dumps(last, ensure_ascii=False).encode()):
            raise RowsLeftOut

    def _upsert(self, last: Mapping[str, str]) -> int:
        ids = sorted(last)
        return self._connection.execute(UPSERT, (ids, [last[id_] for id_ in ids])).rowcount

    def _copy(self, last: Mapping[str, str], meanwhile: Callable[[], object]) -> int:
        """Store the new voters by COPY, which saves the database a third of the work, and the changed ones as ever."""
        self._upsert({})  # nothing; but its trigger lets no other writer in until the commit, so what is read now holds
        self._connection.execute(BY_INDEX)
        ids = sorted(last)
        kept: dict[str, str] = dict(self._connection.execute(CHOICES_BY_LINES, ("\n".join(ids),)).fetchall())
        with self._connection.cursor() as cursor:
            with cursor.copy(COPY) as copy:
                copy.write("".join([f"{id_}\t{last[id_]}\n" for id_ in ids if id_ not in kept]))
                meanwhile()
            # An id that was not asked for is another spelling that the column's type takes for equal: COPY fails on it.
            changed = {id_: last[id_] for id_, choice in kept.items() if last.get(id_, choice) != choice}
            return cursor.rowcount + (self._upsert(changed) if changed else 0)

    def tally(self) -> Tally:
        """How many rows hold which choice. Raises psycopg.Error where there is none, or no answer."""
        row = self._connection.execute(READ).fetchone()
        if row is None:
            raise psycopg.errors.NoDataFound("vote_tally_version is empty: the worker's next run fills it")
        return Tally(version=row[0], counts=row[1])

    def outgrow(self, version: int) -> None:
        """Make the version greater than *version*, which clients have seen of a database that this one replaced."""
        self._connection.execute(OUTGROW, (version,))

    def fence(self) -> int:
        """The token of the newest run; 0 before the first."""
        return self._number(FENCE)

    def is_empty(self) -> bool:
        """Whether there is not one row. Raises UndefinedTable where there is no table either."""
        return self._connection.execute(IS_EMPTY).fetchone() == (True,)

    def count(self) -> Mapping[str, int]:
        """How many rows hold which choice, counted one by one."""
        return dict(self._connection.execute(self.grouped()).fetchall())

    def grouped(self) -> LiteralString:
        """The query that counts how many rows hold which choice."""
        is_text = self._connection.execute(IS_TEXT).fetchone() is not None
        return GROUPED_BY_COLUMN if is_text else GROUPED_BY_TEXT

    def verify(self, *, repair: bool) -> Verification:
        """Compare the tally with the rows while nobody writes; with *repair*, make it right before anybody does."""
        with self._connection.transaction():
            self._connection.execute(HOLD_WRITERS)
            kept: dict[str, int] = dict(self._connection.execute(KEPT).fetchall())
            counted = self.count()
            missing = self.missing_triggers()
            repaired = repair and kept != counted
            if repaired:
                self._recount()
        return Verification(kept, counted, missing, repaired)

    def missing_triggers(self) -> frozenset[str]:
        """Those that are removed or disabled: the tally does not follow."""
        return NEEDED_TRIGGERS - {name for (name,) in self._connection.execute(TRIGGERS).fetchall()}

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """No run of the worker commits anything while this lasts, which must be below the idle timeout of 5 s."""
        with self._connection.transaction():
            self._number(HOLD_FENCE)
            yield

    def choices(self, ids: Collection[str]) -> dict[str, str]:
        """The rows of the voters *ids*, as far as there are any."""
        return dict(self._connection.execute(CHOICES, (list(ids),)).fetchall())

    def _installed(self) -> tuple[bool, bool]:
        """Whether the tally follows every write, and whether this version made it."""
        follows, is_newest = self._connection.execute(INSTALLED).fetchone() or (False, False)
        if follows:  # a TRUNCATE of all tables takes the rows that the version and the fence are kept in
            follows = self._connection.execute(WHOLE).fetchone() == (True,)
        return follows, is_newest

    def _create(self, *, counted: bool) -> None:
        script = files("voting").joinpath("schema.sql").read_text()
        with self._connection.transaction():
            self._connection.execute(script)
            if counted:
                self._recount()

    def _recount(self) -> None:
        for statement in (DISCARD, KEEP + self.grouped(), MOVE):
            self._connection.execute(statement)

    def _number(self, query: LiteralString, *parameters: object) -> int:
        return int(self._row(query, *parameters)[0])

    def _row(self, query: LiteralString, *parameters: object) -> tuple[Any, ...]:
        row = self._connection.execute(query, parameters).fetchone()
        if row is None:
            raise psycopg.errors.NoDataFound("vote_worker_fence is empty: the worker's next run fills it")
        return row


def _is_plain(last: Mapping[str, str]) -> bool:
    """Whether COPY reads all of *last* as it is. Ids of ours are; another producer's may hold anything."""
    text = "".join((*last, *last.values()))
    return not any(character in text for character in NOT_PLAIN)
