"""Votes that are stored only to see whether the database takes them, and are taken back."""

import secrets
from collections.abc import Sequence

import psycopg

from voting.database.rows import Rows
from voting.vote import CHOICES, Vote

AT_COMMIT = "SET CONSTRAINTS ALL IMMEDIATE"  # what a commit would check


class TakenNow(Exception):
    """A vote that was refused a moment ago would be stored now: the table was at fault, and has been mended."""


class Trial:
    """What the rows of one transaction would meet."""

    def __init__(self, connection: psycopg.Connection, *, may_leave_out: bool) -> None:
        """Try in a transaction of *connection*; a trigger that is not ours *may_leave_out* rows."""
        self._connection = connection
        self._rows = Rows(connection)
        self._may_leave_out = may_leave_out

    def see_strangers(self) -> None:
        """Try made-up voters, one of either choice and one who changes its mind; raise what the first of them met.

        Nothing is raised where a vote of theirs would be stored.
        """
        one, other = secrets.token_hex(16), secrets.token_hex(16)
        met = [self._meets(vote) for vote in (Vote(CHOICES[0], one), Vote(CHOICES[1], other), Vote(CHOICES[1], one))]
        if all(met) and met[0] is not None:
            raise met[0]

    def see_refused(self, refused: Sequence[Vote]) -> None:
        """Raise TakenNow where one of *refused* would be stored."""
        # What was stored before this keeps a lock of the table: no trigger and no constraint comes or goes any more.
        if not all(self._meets(vote) for vote in refused):
            raise TakenNow

    def _meets(self, vote: Vote) -> Exception | None:
        """Store *vote* until the end of the transaction, or return what keeps it from that."""
        last = {vote.voter_id: vote.choice}
        try:
            with self._connection.transaction():
                self._rows.upsert(last)
                if self._may_leave_out:
                    self._rows.see_to_all(last)
                self._connection.execute(AT_COMMIT)
        except Exception as error:
            if self._connection.closed:
                raise
            return error
        return None
