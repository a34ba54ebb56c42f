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

# At least as great as what Redis has seen, should this database come from an older backup.
TAKE_FENCE = "UPDATE {ours}.vote_worker_fence SET token = greatest(token, %s) + 1 RETURNING token"
# With it, whether a trigger that sees each row first (tgtype: ROW is bit 0, BEFORE bit 1) or a rule for INSERT (3) or
# UPDATE (2) is there, as none of ours is: either may keep a vote out of the table, or change it.
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

# One statement, hence one snapshot: the counts are those of the version.
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
    """One row a voter, the last choice; and how many chose what, whoever wrote the rows."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Use *connection*, which must be in autocommit mode."""
        self._connection = connection
        self._rows = Rows(connection)

    def install(self) -> bool:
        """Create what is missing, and return whether anything was, as `installation.install` does."""
        return installation.install(self._connection)

    def follows(self) -> bool:
        """Whether the tally follows every write, be it installed by this version or an older one."""
        return installation.follows(self._connection)

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
                changed = self._rows.store(last, meanwhile)
                if may_leave_out:
                    self._rows.see_to_all(last)
                if refused:
                    Trial(self._connection, may_leave_out=may_leave_out).see_refused(refused)
                return changed
        except psycopg.errors.UniqueViolation:  # of a writer whom our triggers do not stop: they are off
            with self._held(token, in_haste=in_haste) as may_leave_out:
                changed = self._rows.upsert(last)
                if may_leave_out:
                    self._rows.see_to_all(last)
                return changed

    def try_out(self, token: int, refused: Sequence[Vote] = ()) -> None:
        """Try made-up voters, one of either choice and one who changes its mind, and take all back; 2 s a statement.

        *refused* votes must be refused again behind them in the same transaction.

        Raises:
            TakenNow: a made-up voter's vote and one of those would be stored.
            Superseded: a newer run has taken the fence.
            Exception: what the first of the made-up voters met, where no vote of theirs would be stored.
        """
        with self._connection.transaction(force_rollback=True), self._held(token, in_haste=True) as may_leave_out:
            trial = Trial(self._connection, may_leave_out=may_leave_out)
            trial.see_strangers()
            trial.see_refused(refused)

    def tally(self) -> Tally:
        """How many rows hold which choice. Raises psycopg.Error where there is none, or no answer."""
        row = run(self._connection, READ).fetchone()
        if row is None:
            raise psycopg.errors.NoDataFound("vote_tally_version is empty: the worker's next run fills it")
        return Tally(version=row[0], counts=row[1])

    def outgrow(self, version: int) -> None:
        """Make the version greater than *version*, which clients have seen of a database that this one replaced."""
        run(self._connection, OUTGROW, version)

    def fence(self) -> int:
        """The token of the newest run; 0 before the first."""
        return self._number(FENCE)

    def is_empty(self) -> bool:
        """Whether there is not one row. Raises UndefinedTable where there is no table either."""
        return run(self._connection, IS_EMPTY).fetchone() == (True,)

    def count(self) -> Mapping[str, int]:
        """How many rows hold which choice, counted one by one."""
        return verification.count(self._connection)

    def verify(self, *, repair: bool) -> Verification:
        """Compare the tally with the rows while nobody writes; with *repair*, make it right before anybody does."""
        return verification.verify(self._connection, repair=repair)

    def missing_triggers(self) -> frozenset[str]:
        """Those that are removed or disabled: the tally does not follow."""
        return verification.missing_triggers(self._connection)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """No run of the worker commits anything while this lasts, which must be below the idle timeout of 5 s."""
        with self._connection.transaction():
            self._number(HOLD_FENCE)
            yield

    def choices(self, ids: Collection[str]) -> dict[str, str]:
        """The rows of the voters *ids*, as far as there are any."""
        return self._rows.choices(ids)

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

    def _number(self, query: LiteralString, *parameters: object) -> int:
        return int(self._row(query, *parameters)[0])

    def _row(self, query: LiteralString, *parameters: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = run(self._connection, query, *parameters).fetchone()
        if row is None:
            raise psycopg.errors.NoDataFound("vote_worker_fence is empty: the worker's next run fills it")
        return row
