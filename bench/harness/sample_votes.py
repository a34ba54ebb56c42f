"""Sample voters, votes and rows: any number, and the same every time."""

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from redis import Redis

from voting.database.vote_table import VoteTable
from voting.queue.queue_view import VOTES
from voting.vote import Vote

REVOTES = 0.2  # share of votes by voters who have voted before
PUSHED_AT_ONCE = 2_000

# The contract's table. To build the indexes last takes a third of the time.
FILL = """
CREATE TABLE votes (id VARCHAR(255) NOT NULL, vote VARCHAR(255) NOT NULL);
INSERT INTO votes SELECT md5(number::text), CASE WHEN random() < 0.5 THEN 'a' ELSE 'b' END
    FROM generate_series(1, {rows}) AS number;
ALTER TABLE votes ADD CONSTRAINT votes_id_key UNIQUE (id);
CREATE UNIQUE INDEX idx_votes_id ON votes (id);
CREATE INDEX idx_votes_vote ON votes (vote);
"""


def cast(count: int) -> Iterator[Vote]:
    """*count* votes, oldest first. Ids have the length of ours and no order, and none of them is in a filled table."""
    rng = random.Random(count)
    voters = 0
    for _ in range(count):
        if voters and rng.random() < REVOTES:
            voter = rng.randrange(voters)
        else:
            voter = voters
            voters += 1
        yield Vote("ab"[rng.getrandbits(1)], hashlib.md5(b"voter %d" % voter, usedforsecurity=False).hexdigest())


def push(redis: Redis, votes: Iterable[Vote]) -> None:
    """Queue *votes* as producers do, but thousands in one LPUSH; return when Redis has them on its disk."""
    messages = (b'{"vote": "%b", "voter_id": "%b"}' % (v.choice.encode(), v.voter_id.encode()) for v in votes)
    while some := list(islice(messages, PUSHED_AT_ONCE)):
        redis.lpush(VOTES, *some)
    redis.waitaof(1, 0, 60_000)  # so that the drain does not wait for the disk


class Databases:
    """Databases that hold the contract's table with so many rows, indexed, with the tally and its triggers."""

    def __init__(self, postgres_url: str) -> None:
        self._server = postgres_url
        self._filled: set[int] = set()

    def filled(self, rows: int) -> str:
        """The URL of the database with *rows*: read-only, since it is the template of the copies."""
        name = f"with_{rows}_rows"
        if rows not in self._filled:
            with psycopg.connect(self._server, autocommit=True) as server:
                server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            with psycopg.connect(self._url(name), autocommit=True) as database:
                database.execute("SET maintenance_work_mem = '256MB'")
                if rows:
                    database.execute(sql.SQL(FILL).format(rows=sql.Literal(rows)))
                VoteTable(database).install()
                database.execute("VACUUM ANALYZE votes")
            self._filled.add(rows)
        return self._url(name)

    @contextmanager
    def copy(self, rows: int, *, triggers: bool = True) -> Iterator[str]:
        """The URL of a writable database with *rows*, dropped at the end."""
        template = urlsplit(self.filled(rows)).path[1:]
        with psycopg.connect(self._server, autocommit=True) as server:
            copied = sql.SQL("CREATE DATABASE scratch TEMPLATE {} STRATEGY file_copy")
            server.execute(copied.format(sql.Identifier(template)))
            if not triggers:
                with psycopg.connect(self._url("scratch")) as database:
                    database.execute("ALTER TABLE votes DISABLE TRIGGER USER")
            server.execute("CHECKPOINT")  # so that no contender pays for the writes so far
            yield self._url("scratch")
            server.execute("DROP DATABASE scratch WITH (FORCE)")

    def _url(self, name: str) -> str:
        return urlsplit(self._server)._replace(path=f"/{name}").geturl()
