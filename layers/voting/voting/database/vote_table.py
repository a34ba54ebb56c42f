"""The Postgres table of votes, the tally that its triggers keep, and the fence of the worker's runs."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg

from voting.database import installation, verification
from voting.database.location import run
from voting.database.rows import Rows
from voting.database.trial import Trial
from voting.database.verification import Verification
from voting.fence import Superseded
from voting.tally import Tally
from voting.vote import Vote

# At least as great as any token that Redis has seen, in case this database was restored from an older backup.
TAKE_FENCE = "UPDATE {ours}.vote_worker_fence SET token = greatest(token, %s) + 1 RETURNING token"
# Also returns whether there is a BEFORE ROW trigger (tgtype: ROW is bit 0, BEFORE bit 1) or a rule for INSERT (3) or
# UPDATE (2). We have neither; both may keep a vote out of the table, or change it.
HOLD_FENCE = """
SELECT token, EXISTS (
    SELECT FROM pg_trigger WHERE tgrelid = to_regclass({votes_name})::oid AND NOT tgisinternal AND tgenabled <> 'D'
    AND tgtype & 3::smallint = 3::smallint
) OR EXISTS (
    SELECT FROM pg_rewrite
    WHERE ev_class = to_regclass({votes_name})::oid AND ev_type IN ('2', '3') AND ev_enabled <> 'D'
)
FROM {ours}.vote_worker_fence FOR UPDATE OF vote_worker_fence
"""
IN_HASTE = "SET LOCAL statement_timeout = '2s'; SET LOCAL lock_timeout = '1500ms'"

# One statement, hence one snapshot: counts and version belong together.
READ = """
SELECT version, coalesce(jsonb_object_agg(vote, votes) FILTER (WHERE vote IS NOT NULL), '{}')
FROM {ours}.vote_tally_version LEFT JOIN {ours}.vote_tally ON votes <> 0
GROUP BY version
"""

OUTGROW = """
UPDATE {ours}.vote_tally_version
SET version = greatest(version, %s + 1, (extract(epoch FROM clock_timestamp()) * 1000::numeric)::bigint)
"""

FENCE = "SELECT token FROM {ours}.vote_worker_fence"
IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM {votes})"


class VoteTable:
    """The last choice of each voter, one row per voter, and the tally of all rows, whichever program wrote them."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Use *connection*, which must be in autocommit mode."""
        self._connection = connection
        self._rows = Rows(connection)

    def install(self) -> bool:
        """Create what is missing; return whether anything was, as `installation.install` does."""
        return installation.install(self._connection)

    def follows(self) -> bool:
        """Whether the tally follows every write, installed by this version or an older one."""
        return installation.follows(self._connection)

    def take_fence(self, at_least: int = 0) -> int:
        """Begin a run: return a token that is greater than those of all earlier runs, and than *at_least*."""
        return self._number(TAKE_FENCE, at_least)

    def record(
        self,
        votes: Sequence[Vote],
        token: int,
        before_wait: Callable[[], object] = lambda: None,
        *,
        in_haste: bool = False,
        refused: Sequence[Vote] = (),
    ) -> int:
        """Store the last choice of each voter of *votes*, which come oldest first; return how many rows changed.

        All or nothing, and safe to repeat. *before_wait* is called once, just before the longest wait for the database:
        a thread that it starts has the GIL then. With *in_haste*, a statement may take 2 s. *refused* votes must
        be refused again after *votes* in the same transaction; then only those votes themselves can be the reason.

        Raises:
            TakenNow: one of the *refused* votes would be stored; nothing was changed.
            Superseded: a newer run has taken the fence; nothing was changed.
            psycopg.Error: the database is down, or refuses one or all of the votes; they may or may not be stored.
                `Fault.of` tells which.
            RowsLeftOut: a foreign trigger or rule keeps one or all of the votes out of the table; nothing was changed.
            UnicodeError, TypeError, ...: the client could not encode the votes as a statement; nothing was changed.
        """
        last = {vote.voter_id: vote.choice for vote in votes}
        try:
            with self._held(token, in_haste=in_haste) as may_leave_out:
                changed = self._rows.store(last, before_wait)
                if may_leave_out:
                    self._rows.see_to_all(last)
                if refused:
                    Trial(self._connection, may_leave_out=may_leave_out).see_refused(refused)
                return changed
        except psycopg.errors.UniqueViolation:  # by a writer that our triggers did not hold up: they are disabled
            with self._held(token, in_haste=in_haste) as may_leave_out:
                changed = self._rows.upsert(last)
                if may_leave_out:
                    self._rows.see_to_all(last)
                return changed

    def try_out(self, token: int, refused: Sequence[Vote] = ()) -> None:
        """Try made-up voters, one per choice and one that changes its choice, and roll all back; 2 s per statement.

        *refused* votes must be refused again after them in the same transaction.

        Raises:
            TakenNow: a made-up voter's vote and one of the *refused* votes would be stored.
            Superseded: a newer run has taken the fence.
            Exception: the error of the first made-up voter, if none of their votes would be stored.
        """
        with self._connection.transaction(force_rollback=True), self._held(token, in_haste=True) as may_leave_out:
            trial = Trial(self._connection, may_leave_out=may_leave_out)
            trial.see_strangers()
            trial.see_refused(refused)

    def tally(self) -> Tally:
        """Return the tally. Raises psycopg.Error if there is none, or the database does not answer."""
        row = run(self._connection, READ).fetchone()
        if row is None:
            raise psycopg.errors.NoDataFound("vote_tally_version is empty: the worker's next run fills it")
        return Tally(version=row[0], counts=row[1])

    def outgrow(self, version: int) -> None:
        """Make the version greater than *version*, which clients have seen of a database that this one replaces."""
        run(self._connection, OUTGROW, version)

    def fence(self) -> int:
        """Return the token of the newest run; 0 before the first."""
        return self._number(FENCE)

    def is_empty(self) -> bool:
        """Whether the table has no rows. Raises UndefinedTable if there is no table."""
        return run(self._connection, IS_EMPTY).fetchone() == (True,)

    def count(self) -> Mapping[str, int]:
        """Count the rows of each choice one by one."""
        return verification.count(self._connection)

    def verify(self, *, repair: bool) -> Verification:
        """Compare the tally with the rows while writers are locked out; with *repair*, correct it before they go on."""
        return verification.verify(self._connection, repair=repair)

    def missing_triggers(self) -> frozenset[str]:
        """Return the triggers that are removed or disabled, so that the tally does not follow."""
        return verification.missing_triggers(self._connection)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Keep every run from committing during the block, which must end within the idle timeout of 5 s."""
        with self._connection.transaction():
            self._number(HOLD_FENCE)
            yield

    def choices(self, ids: Collection[str]) -> dict[str, str]:
        """Return the choices of the voters *ids* that have a row."""
        return self._rows.choices(ids)

    @contextmanager
    def _held(self, token: int, *, in_haste: bool = False) -> Iterator[bool]:
        """Open a transaction of the run that holds *token*; no newer run begins before it ends.

        Yields whether a foreign trigger may leave out rows.
        """
        with self._connection.transaction():
            if in_haste:
                self._connection.execute(IN_HASTE, prepare=False)
            held, may_leave_out = self._row(HOLD_FENCE)
            if held != token:
                raise Superseded
            yield may_leave_out

    def _number(self, query: LiteralString, *parameters: object) -> int:
        return int(self._row(query, *parameters)[0])

    def _row(self, query: LiteralString, *parameters: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = run(self._connection, query, *parameters).fetchone()
        if row is None:
            raise psycopg.errors.NoDataFound("vote_worker_fence is empty: the worker's next run fills it")
        return row
