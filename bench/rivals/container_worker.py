"""The container app's worker, without its pause of 100 ms a vote: what ours replaces.

It is C# there. Its time goes into a round trip to Redis and a commit for each vote, so that the language hardly shows;
psycopg even prepares its statements, which the C# code does not.
"""

import json

import psycopg
from redis import Redis

from voting.queue.queue_view import VOTES


def drain(redis: Redis, postgres: psycopg.Connection) -> int:
    """Store vote by vote, each in a transaction of its own, until the list is empty; return how many."""
    stored = 0
    while (message := redis.lpop(VOTES)) is not None:
        vote = json.loads(message)  # type: ignore[arg-type] # a list only where a count is given
        try:
            postgres.execute("INSERT INTO votes (id, vote) VALUES (%s, %s)", (vote["voter_id"], vote["vote"]))
        except psycopg.errors.UniqueViolation:
            postgres.execute("UPDATE votes SET vote = %s WHERE id = %s", (vote["vote"], vote["voter_id"]))
        stored += 1
    return stored
