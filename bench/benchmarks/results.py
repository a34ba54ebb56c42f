"""What one read of the results costs at 5 M rows: the stored tally and its snapshot, compared with counting."""

import statistics
import time
from collections.abc import Callable

from redis import Redis

from bench.harness import stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Figure, Goal, Plot, Report, Scale, in_turns
from bench.harness.sample_votes import Databases
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.results.snapshot import Snapshots
from voting.settings import Settings

ROWS, SMOKE_ROWS = 5_000_000, 20_000
OLD_QUERY = "SELECT vote, COUNT(id) AS count FROM votes GROUP BY vote"  # of the container app's result service
GROUP_BY, LEAST = "GROUP BY", "GROUP BY of an index alone"
READS = 200  # per contender and repetition; their median is one value


def measure(scale: Scale) -> Report:
    rows = SMOKE_ROWS if scale.smoke else ROWS
    with stores.running() as started:
        say(f"filling a table with {rows:,} rows")
        url = Databases(started.postgres_url).filled(rows)
        clients = Clients(Settings({"REDIS_URL": started.redis_url, "DATABASE_URL": url}))
        try:
            tally, snapshot = _compare(clients, rows, scale)
        finally:
            clients.close()
    return Report(
        comparisons=[tally, snapshot],
        goals=[
            Goal("times GROUP BY, the tally from Postgres", 1 / tally.ratio(GROUP_BY), 3_000, "at least"),
            Goal("one read of the tally, ms", tally.ours.median, 1.0, "at most"),
            Goal("one read of the snapshot, ms", snapshot.ours.median, 1.0, "at most"),
        ],
        notes=[
            (
                "The tally is read over an open connection, as the function `result` does without a fresh snapshot. "
                "The snapshot is read from Redis, as the function does otherwise."
            ),
            (
                f"GROUP BY is the query of the container app's result service, once a second: `{OLD_QUERY}`, over the "
                "same connection. With `count(*)` instead, PostgreSQL can scan the index on `vote` alone, in parallel, "
                "since the table has just been vacuumed: the least that counting costs."
            ),
        ],
        plot=Plot(log_y=True),
    )


def _compare(clients: Clients, rows: int, scale: Scale) -> tuple[Comparison, Comparison]:
    connection = clients.postgres()
    table, snapshots = VoteTable(connection), Snapshots(Redis.from_url(clients.settings.redis_url))
    snapshots.write(table.tally())
    snapshot = snapshots.read()
    assert snapshot is not None
    assert snapshot.tally.counts == table.tally().counts == table.count()  # also warms all three
    connection.execute("SET statement_timeout = '60s'")

    def as_before() -> object:
        return connection.execute(OLD_QUERY).fetchall()

    turns = in_turns(
        scale.repetitions(7),
        lambda: _milliseconds(table.tally, READS),
        lambda: _milliseconds(Snapshots(clients.redis()).read, READS),
        lambda: _milliseconds(table.count, 1),
        lambda: _milliseconds(as_before, 1),
    )
    tally, redis, least, grouped = (tuple(values) for values in zip(*turns, strict=True))
    counting = (Figure(GROUP_BY, "ms", grouped), Figure(LEAST, "ms", least))
    return (
        Comparison(f"one read of the tally at {rows:,} rows", Figure("ours", "ms", tally), counting),
        Comparison(f"one read of the snapshot at {rows:,} rows", Figure("ours", "ms", redis), counting),
    )


def _milliseconds(read: Callable[[], object], times: int) -> float:
    """The median of *times* reads, so that one slow read does not matter."""
    each_ms = []
    for _ in range(times):
        started = time.perf_counter()
        read()
        each_ms.append((time.perf_counter() - started) * 1000)
    median_ms = statistics.median(each_ms)
    say(f"{read.__qualname__}: {median_ms:.3f} ms")
    return median_ms


BENCHMARK = Benchmark("results", "What does one read of the results cost?", measure)
