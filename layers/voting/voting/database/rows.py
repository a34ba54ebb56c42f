"""Writes the rows of the Postgres table of votes, in a transaction of the caller."""

import json
from collections.abc import Callable, Collection, Mapping

import psycopg

from voting.database.location import locate, run

# The ids are sorted, since two writers that lock the same rows in different orders deadlock. A row that would not
# change is not written.
UPSERT = """
INSERT INTO {votes} AS votes (id, vote)
SELECT * FROM unnest(%b::text[], %b::text[])
ON CONFLICT (id) DO UPDATE SET vote = EXCLUDED.vote WHERE votes.vote IS DISTINCT FROM EXCLUDED.vote
"""

# Counts the votes that no row holds. They are sent as bytes, since a trigger may have changed the client encoding.
LEFT_OUT = """
SELECT count(*) FROM jsonb_each_text(convert_from(%b, 'UTF8')::jsonb) AS wanted (id, vote)
LEFT JOIN {votes} AS votes ON votes.id = wanted.id
WHERE votes.id IS NULL OR votes.vote::text IS DISTINCT FROM wanted.vote
"""

# The current choices of ids. For thousands of them, the planner would read a large table from end to end.
BY_INDEX = "SET LOCAL enable_seqscan = off"
CHOICES = "SELECT id, vote FROM {votes} WHERE id = ANY(%b::text[])"
CHOICES_BY_LINES = "SELECT id, vote FROM {votes} WHERE id = ANY(string_to_array(%b, E'\\n'))"  # sent in half the time
COPY = "COPY {votes} (id, vote) FROM STDIN"
WORTH_COPYING = 1000  # voters: for fewer, the extra round trips take longer than COPY saves
NOT_PLAIN = "\t\n\r\\"  # characters that COPY's text format escapes


class RowsLeftOut(Exception):
    """A foreign trigger or rule left out or changed rows without an error, so that their votes would not count."""

    def __init__(self) -> None:
        super().__init__("a trigger or a rule that is not ours leaves out rows, or changes them: fix it, or drop it")


class Rows:
    """The rows of the table, one per voter."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def store(self, last: Mapping[str, str], before_wait: Callable[[], object]) -> int:
        """Write the choices *last* by voter in the fastest way; return how many rows changed."""
        if len(last) >= WORTH_COPYING and _is_plain(last):
            return self._copy(last, before_wait)
        before_wait()
        return self.upsert(last)

    def upsert(self, last: Mapping[str, str]) -> int:
        """Write the choices *last* by voter; return how many rows changed."""
        ids = sorted(last)
        return run(self._connection, UPSERT, ids, [last[id_] for id_ in ids]).rowcount

    def see_to_all(self, last: Mapping[str, str]) -> None:
        """Raise RowsLeftOut if the table lacks a vote of *last*."""
        self._connection.execute(BY_INDEX)
        wanted = json.dumps(last, ensure_ascii=False).encode()
        if run(self._connection, LEFT_OUT, wanted).fetchone() != (0,):
            raise RowsLeftOut

    def choices(self, ids: Collection[str]) -> dict[str, str]:
        """Return the choices of the voters *ids* that have a row."""
        return dict(run(self._connection, CHOICES, list(ids)).fetchall())

    def _copy(self, last: Mapping[str, str], before_wait: Callable[[], object]) -> int:
        """Store new voters by COPY, which saves the database a third of the work, and changed choices by upsert."""
        self.upsert(
            {}
        )  # writes nothing, but its trigger locks out other writers until the commit, so what is read now stays true
        self._connection.execute(BY_INDEX)
        ids = sorted(last)
        kept: dict[str, str] = dict(run(self._connection, CHOICES_BY_LINES, "\n".join(ids)).fetchall())
        with self._connection.cursor() as cursor:
            with cursor.copy(locate(self._connection).fill(COPY)) as copy:
                copy.write("".join([f"{id_}\t{last[id_]}\n" for id_ in ids if id_ not in kept]))
                before_wait()
            # An id that was not asked for is another spelling that the column's type treats as equal: COPY fails on it.
            changed = {id_: last[id_] for id_, choice in kept.items() if last.get(id_, choice) != choice}
            return cursor.rowcount + (self.upsert(changed) if changed else 0)


def _is_plain(last: Mapping[str, str]) -> bool:
    """Whether COPY reads all of *last* unescaped. Our own ids need no escapes; other producers' ids may."""
    text = "".join((*last, *last.values()))
    return not any(character in text for character in NOT_PLAIN)
