"""A run of the worker in a container, from its start until a newer run takes over."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
from redis import Redis

from tests.stack import wait_for
from voting.database.vote_table import VoteTable
from voting.queue.queue_view import FENCE, VOTES
from voting.vote import Vote


def drained(invoke: Callable[[str, str], Any], redis: Redis, database: psycopg.Connection) -> dict[str, Any]:
    """Let the worker store a vote, its change and a piece of junk, then take over; what it counted."""
    redis.lpush(VOTES, Vote("a", "x").encode(), b"junk", Vote("b", "x").encode())
    answers: list[dict[str, Any]] = []
    run = threading.Thread(target=lambda: answers.append(invoke("WorkerFunction", "schedule")))
    run.start()

    def stored() -> bool:
        assert run.is_alive() or answers, "the run failed"
        try:
            return database.execute("SELECT id, vote FROM votes").fetchall() == [("x", "b")]
        except psycopg.errors.UndefinedTable:
            return False  # not installed yet

    wait_for(stored, "the worker to store the vote", 60)
    redis.set(FENCE, VoteTable(database).take_fence())
    run.join()
    return {name: answers[0][name] for name in ("stored", "changed", "parked", "superseded")}
