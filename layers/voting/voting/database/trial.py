"""Votes that are stored and rolled back, only to see whether the database accepts them."""

import secrets
from collections.abc import Sequence

import psycopg

from voting.database.rows import Rows
from voting.vote import CHOICES, Vote

AT_COMMIT = "SET CONSTRAINTS ALL IMMEDIATE"  # checks what a commit would


class TakenNow(Exception):
    """A vote that was refused a moment ago would be stored now: the table was at fault, and has been repaired."""


class Trial:
    """Tries rows within one transaction."""

    def __init__(self, connection: psycopg.Connection, *, may_leave_out: bool) -> None:
        """Try in a transaction of *connection*; a foreign trigger *may_leave_out* rows."""
        self._connection = connection
        self._rows = Rows(connection)
        self._may_leave_out = may_leave_out

    def see_strangers(self) -> None:
        """Try made-up voters, one per choice and one that changes its choice; raise the error of the first of them.

        Nothing is raised if any of their votes would be stored.
        """
        one, other = secrets.token_hex(16), secrets.token_hex(16)
        met = [self._meets(vote) for vote in (Vote(CHOICES[0], one), Vote(CHOICES[1], other), Vote(CHOICES[1], one))]
        if all(met) and met[0] is not None:
            raise met[0]

    def see_refused(self, refused: Sequence[Vote]) -> None:
        """Raise TakenNow if one of *refused* would be stored."""
        # The rows stored before hold a lock on the table, so that no trigger and no constraint can come or go any more.
        if not all(self._meets(vote) for vote in refused):
            raise TakenNow

    def _meets(self, vote: Vote) -> Exception | None:
        """Store *vote* until the end of the transaction; return the error if it is not stored."""
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
