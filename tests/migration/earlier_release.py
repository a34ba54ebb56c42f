"""The database's part of the release before the tally had a schema of its own: its script and its statements as they
were, with names by the search path."""

from collections.abc import Mapping
from pathlib import Path

import psycopg

SCRIPT = Path(__file__).with_name("earlier_release.sql")
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
RECOUNT = (
    "DELETE FROM vote_tally; INSERT INTO vote_tally SELECT vote, count(*) FROM votes GROUP BY vote; "
    "SELECT vote_tally_moved()"
)
TAKE_FENCE = "UPDATE vote_worker_fence SET token = greatest(token, %s) + 1 RETURNING token"
HOLD_FENCE = "SELECT token, false FROM vote_worker_fence FOR UPDATE OF vote_worker_fence"
UPSERT = """
INSERT INTO votes (id, vote)
SELECT * FROM unnest(%b::text[], %b::text[])
ON CONFLICT (id) DO UPDATE SET vote = EXCLUDED.vote WHERE votes.vote IS DISTINCT FROM EXCLUDED.vote
"""
READ = """
SELECT version, coalesce(jsonb_object_agg(vote, votes) FILTER (WHERE vote IS NOT NULL), '{}')
FROM vote_tally_version LEFT JOIN vote_tally ON votes <> 0
GROUP BY version
"""
NOTE = "UPDATE vote_worker_fence SET compared_shape = %s, compared_writes = %s, compared_at = clock_timestamp()"


class EarlierRelease:
    """What its worker and its results do."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def install(self) -> bool:
        follows, is_newest = self._row(INSTALLED)
        follows = follows and self._row(WHOLE) == (True,)
        if follows and is_newest:
            return False
        with self.connection.transaction():
            self.connection.execute(SCRIPT.read_text())
            if not follows:
                self.connection.execute(RECOUNT)
        return True

    def take_fence(self, at_least: int = 0) -> int:
        return self._row(TAKE_FENCE, at_least)[0]

    def record(self, votes: Mapping[str, str], token: int) -> bool:
        """Whether the fence was still the run's."""
        with self.connection.transaction():
            if self._row(HOLD_FENCE)[0] != token:
                return False
            self.connection.execute(UPSERT, (list(votes), list(votes.values())))
        return True

    def tally(self) -> tuple[int, Mapping[str, int]]:
        return self._row(READ)

    def compare(self) -> None:
        self.connection.execute("SELECT vote_tally_moved()")
        self.connection.execute(NOTE, ("shape", "writes"))

    def _row(self, query: str, *parameters: object) -> tuple:
        row = self.connection.execute(query, parameters or None).fetchone()
        assert row is not None
        return row
