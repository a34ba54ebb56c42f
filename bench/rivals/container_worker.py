"""The worker of the container app, without its pause of 100 ms per vote.

The original is in C#. It spends its time on a round trip to Redis and a commit per vote, so the language hardly
matters; psycopg even prepares its statements, which the C# code does not.
"""

import json

import psycopg
from redis import Redis

from voting.queue.queue_view import VOTES


def drain(redis: Redis, postgres: psycopg.Connection) -> int:
    """Store each vote in its own transaction until the list is empty; return the number of votes."""
    stored = 0
    while (message := redis.lpop(VOTES)) is not None:
        vote = json.loads(message)  # type: ignore[arg-type] # returns a list only if given a count
        try:
            postgres.execute("INSERT INTO votes (id, vote) VALUES (%s, %s)", (vote["voter_id"], vote["vote"]))
        except psycopg.errors.UniqueViolation:
            postgres.execute("UPDATE votes SET vote = %s WHERE id = %s", (vote["vote"], vote["voter_id"]))
        stored += 1
    return stored
