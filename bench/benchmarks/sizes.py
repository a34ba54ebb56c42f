"""The size of a queued vote, a stored row and a registered subscriber, for docs/explanation/scale.md."""

from collections.abc import Callable
from itertools import islice
from typing import Any, LiteralString

import psycopg
from redis import Redis

from bench.harness import sample_votes, stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Figure, Report, Scale
from voting.broadcast.subscribers import Subscribers
from voting.database.vote_table import VoteTable

VOTES = 200_000
SUBSCRIBERS = 20_000
BATCH = 20_000
UNIT = "bytes"

NOTES = (
    (
        "Memory is the growth of Valkey's data set, allocator included. Voter ids have 32 characters as ours do, "
        "connection ids 16 as API Gateway's do."
    ),
    (
        "A row includes its three indexes, stored in batches of 20,000 as the worker does; a fifth of the votes are by "
        "voters who voted before. WAL is what a replica or a backup receives. Dead rows stay until VACUUM."
    ),
)


def measure(scale: Scale) -> Report:
    """Fill each store and measure its growth."""
    votes, subscribers = (10_000, 1000) if scale.smoke else (VOTES, SUBSCRIBERS)
    with stores.running() as started, Redis.from_url(started.redis_url) as redis:
        queued = _growth(redis, lambda: sample_votes.push(redis, sample_votes.cast(votes))) / votes
        registered = _growth(redis, lambda: _subscribe(redis, subscribers)) / subscribers
        with psycopg.connect(started.postgres_url, autocommit=True) as connection:
            row, wal = _store(connection, votes)
    figures = {"a queued vote": queued, "a registered subscriber": registered, "a row": row, "WAL for a new row": wal}
    for what, each in figures.items():
        say(f"{what}: {each:.0f} {UNIT}")
    return Report([Comparison(what, Figure("ours", UNIT, (each,))) for what, each in figures.items()], notes=NOTES)


def _growth(redis: Redis, fill: Callable[[], None]) -> float:
    before = _used(redis)
    fill()
    return _used(redis) - before


def _used(redis: Redis) -> float:
    return float(redis.info("memory")["used_memory_dataset"])


def _subscribe(redis: Redis, count: int) -> None:
    subscribers = Subscribers(redis)
    for number in range(count):
        subscribers.add(f"L0SM{number:09}cF=")


def _store(connection: psycopg.Connection, count: int) -> tuple[float, float]:
    """Bytes per row with its indexes, and of its WAL."""
    table = VoteTable(connection)
    table.install()
    token = table.take_fence(0)
    begun = _one(connection, "SELECT pg_current_wal_lsn()::text")
    votes = sample_votes.cast(count)
    while batch := list(islice(votes, BATCH)):
        table.record(batch, token)
    rows = _one(connection, "SELECT count(*) FROM votes")
    size = _one(connection, "SELECT pg_total_relation_size('votes')")
    wal = _one(connection, "SELECT pg_current_wal_lsn() - %s::pg_lsn", begun)
    return float(size) / float(rows), float(wal) / float(rows)


def _one(connection: psycopg.Connection, query: LiteralString, *parameters: object) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


BENCHMARK = Benchmark("sizes", "What do a queued vote, a row and a subscriber take?", measure)
