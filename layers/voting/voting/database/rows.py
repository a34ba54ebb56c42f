"""The rows of the Postgres table of votes, as a run writes them: in a transaction that its caller holds."""

import json
from collections.abc import Callable, Collection, Mapping

import psycopg

from voting.database.location import locate, run

# Sorted ids: two writers that lock the same rows in different orders deadlock. A row that would not change is not
# written again.
UPSERT = """
INSERT INTO {votes} AS votes (id, vote)
SELECT * FROM unnest(%b::text[], %b::text[])
ON CONFLICT (id) DO UPDATE SET vote = EXCLUDED.vote WHERE votes.vote IS DISTINCT FROM EXCLUDED.vote
"""

# Votes that no row holds. They come as bytes, which hold in any encoding of the client: a trigger may have changed it.
LEFT_OUT = """
SELECT count(*) FROM jsonb_each_text(convert_from(%b, 'UTF8')::jsonb) AS wanted (id, vote)
LEFT JOIN {votes} AS votes ON votes.id = wanted.id
WHERE votes.id IS NULL OR votes.vote::text IS DISTINCT FROM wanted.vote
"""

# What the ids hold now. The planner would read a large table from end to end for thousands of them.
BY_INDEX = "SET LOCAL enable_seqscan = off"
CHOICES = "SELECT id, vote FROM {votes} WHERE id = ANY(%b::text[])"
CHOICES_BY_LINES = "SELECT id, vote FROM {votes} WHERE id = ANY(string_to_array(%b, E'\\n'))"  # sent in half the time
COPY = "COPY {votes} (id, vote) FROM STDIN"
WORTH_COPYING = 1000  # voters: for fewer, the round trips cost more than they save
NOT_PLAIN = "\t\n\r\\"  # what COPY's text format would have escaped


class RowsLeftOut(Exception):
    """A trigger or a rule that is not ours left out or changed rows without an error: their votes would not count."""

    def __init__(self) -> None:
        super().__init__("a trigger or a rule that is not ours leaves out rows, or changes them: mend it, or drop it")


class Rows:
    """One row a voter."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def store(self, last: Mapping[str, str], meanwhile: Callable[[], object]) -> int:
        """Write the choices *last* by voter, whatever is the fastest; return how many rows changed."""
        if len(last) >= WORTH_COPYING and _is_plain(last):
            return self._copy(last, meanwhile)
        meanwhile()
        return self.upsert(last)

    def upsert(self, last: Mapping[str, str]) -> int:
        """Write the choices *last* by voter; return how many rows changed."""
        ids = sorted(last)
        return run(self._connection, UPSERT, ids, [last[id_] for id_ in ids]).rowcount

    def see_to_all(self, last: Mapping[str, str]) -> None:
        """Raise RowsLeftOut where the table does not hold a vote of *last*."""
        self._connection.execute(BY_INDEX)
        wanted = json.dumps(last, ensure_ascii=False).encode()
        if run(self._connection, LEFT_OUT, wanted).fetchone() != (0,):
            raise RowsLeftOut

    def choices(self, ids: Collection[str]) -> dict[str, str]:
        """The rows of the voters *ids*, as far as there are any."""
        return dict(run(self._connection, CHOICES, list(ids)).fetchall())

    def _copy(self, last: Mapping[str, str], meanwhile: Callable[[], object]) -> int:
        """Store the new voters by COPY, which saves the database a third of the work, and the changed ones as ever."""
        self.upsert({})  # nothing; but its trigger lets no other writer in until the commit, so what is read now holds
        self._connection.execute(BY_INDEX)
        ids = sorted(last)
        kept: dict[str, str] = dict(run(self._connection, CHOICES_BY_LINES, "\n".join(ids)).fetchall())
        with self._connection.cursor() as cursor:
            with cursor.copy(locate(self._connection).fill(COPY)) as copy:
                copy.write("".join([f"{id_}\t{last[id_]}\n" for id_ in ids if id_ not in kept]))
                meanwhile()
            # An id that was not asked for is another spelling that the column's type takes for equal: COPY fails on it.
            changed = {id_: last[id_] for id_, choice in kept.items() if last.get(id_, choice) != choice}
            return cursor.rowcount + (self.upsert(changed) if changed else 0)


def _is_plain(last: Mapping[str, str]) -> bool:
    """Whether COPY reads all of *last* as it is. Ids of ours are; another producer's may hold anything."""
    text = "".join((*last, *last.values()))
    return not any(character in text for character in NOT_PLAIN)
