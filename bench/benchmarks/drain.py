"""How fast votes get from the Redis list into the table: our worker, the old one, and a plain COPY."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from redis import Redis

from bench.harness import sample_votes, stores
from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Curve, Figure, Goal, Plot, Report, Scale, in_turns
from bench.harness.sample_votes import Databases
from bench.rivals import container_worker
from voting.database.vote_table import VoteTable
from voting.queue.queue_view import PROCESSING, VOTES
from voting.vote import Vote

ROOT = Path(__file__).parents[2]
BATCH = 20_000  # votes, the worker's default
DEADLINE_S = 600.0

OURS, OLD, COPY, SORTED = "ours", "old worker", "COPY", "sorted COPY"


@dataclass(frozen=True, slots=True)
class Case:
    """The rows already in the table, and the votes to store."""

    name: str
    rows: int
    votes: int
    old_votes: int  # fewer for the old worker, which is slow
    repetitions: int


@dataclass(frozen=True, slots=True)
class Drained:
    """What the worker's process measured."""

    commits: Sequence[tuple[int, float]]  # votes stored by then, seconds since the start
    cpu_s: float
    bare_mb: float
    imported_mb: float
    peak_mb: float

    @property
    def seconds(self) -> float:
        """From the start to the last commit."""
        return self.commits[-1][1]

    def rate(self, first: int) -> float:
        """Votes per second over the *first* votes, or over all if there were fewer."""
        stored, at_s = next((commit for commit in self.commits if commit[0] >= first), self.commits[-1])
        return stored / at_s


FULL = (
    Case("into an empty table", 0, 200_000, 1_000, 5),
    Case("into 1 M rows", 1_000_000, 200_000, 1_000, 3),
    Case("into 5 M rows", 5_000_000, 200_000, 1_000, 3),
)
SMOKE = (Case("into 2,000 rows", 2_000, 20_000, 200, 1),)
BACKLOGS = (10_000, 100_000, 1_000_000, 5_000_000)
SMOKE_BACKLOGS = (5_000,)
SMALL, OFTEN = 100_000, 3  # backlogs up to SMALL are drained OFTEN times, since a short pause weighs heavily
FIRST = 200_000  # votes over which backlogs are compared, since the table grows during a long drain
LONGEST = 1_000_000  # votes drained of a larger backlog; the rest stay in the list

NOTES = (
    (
        f"{BATCH:,} votes per batch; {sample_votes.REVOTES:.0%} of the votes are by voters who voted before in the "
        "same backlog. The contract's indexes and our triggers are on. Ours is one run of the worker in its own "
        "process, with its publisher, from its start to its last commit."
    ),
    (
        "The old worker's algorithm runs in Python (psycopg in place of Npgsql), without its pause of 100 ms per vote, "
        "without our triggers, and on fewer votes."
    ),
    (
        "COPY gets the final rows, already encoded: for each batch, one COPY of its new voters with their last "
        "choice, into the same table without triggers. It does not have to change rows, and its rate counts all votes "
        "that its rows stand for. The sorted COPY, into the empty table only, gets its rows in index order, which "
        "ours has to establish by itself."
    ),
    (
        f"Backlogs are compared over their first {FIRST:,} votes: during a long drain the table grows, and index "
        f"entries become more expensive, for COPY too. Of a backlog larger than {LONGEST:,}, only that many votes are "
        "drained; the rest stay in the list."
    ),
)


def measure(scale: Scale) -> Report:
    with stores.running() as started, Redis.from_url(started.redis_url) as redis:
        site = Site(redis, started.redis_url, Databases(started.postgres_url))
        comparisons = [_compare(site, case) for case in (SMOKE if scale.smoke else FULL)]
        backlogs = {count: _backlog(site, count, scale) for count in (SMOKE_BACKLOGS if scale.smoke else BACKLOGS)}
    rates = {count: _rate(drains, FIRST) for count, drains in backlogs.items()}
    long = {count: _rate(drains, LONGEST) for count, drains in backlogs.items()}
    return Report(
        comparisons=[*comparisons, *_points(rates, long)],
        goals=[
            *(Goal(f"times the old worker, {each.case}", each.ratio(OLD), 45, "at least") for each in comparisons),
            *(Goal(f"of COPY, {each.case}", each.ratio(COPY), 0.65, "at least") for each in comparisons),
            Goal(
                "rate of the largest backlog ÷ rate of the smallest",
                rates[max(rates)].median / rates[min(rates)].median,
                0.8,
                "at least",
            ),
            Goal("peak memory of the worker, MB", max(map(_peak_mb, backlogs.values())), 150, "at most"),
        ],
        notes=[*NOTES, _memory(backlogs)],
        plot=Plot(
            "queued votes, into an empty table",
            "votes/s",
            (
                Curve(f"over the first {FIRST:,}", tuple((count, rate.median) for count, rate in rates.items())),
                Curve(f"over the first {LONGEST:,}", tuple((count, rate.median) for count, rate in long.items())),
            ),
            log_x=True,
        ),
    )


@dataclass(frozen=True, slots=True)
class Site:
    """The stores of the benchmark."""

    redis: Redis
    redis_url: str
    databases: Databases


def _compare(site: Site, case: Case) -> Comparison:
    votes = list(sample_votes.cast(case.votes))
    as_cast, in_order = list(_blocks(votes)), list(_blocks(votes, order=sorted))
    contenders = {
        OURS: lambda: case.votes / _drain(site, case.rows, votes).seconds,
        OLD: lambda: case.old_votes / _drain_old(site, case.rows, votes[: case.old_votes]),
        COPY: lambda: case.votes / _copy(site, case.rows, as_cast),
    }
    if not case.rows:  # the copy of a large table takes as long as the turn itself
        contenders[SORTED] = lambda: case.votes / _copy(site, case.rows, in_order)
    turns = zip(*in_turns(case.repetitions, *contenders.values()), strict=True)
    figures = (Figure(name, "votes/s", values) for name, values in zip(contenders, turns, strict=True))
    return Comparison(f"{case.votes:,} votes {case.name}", next(figures), tuple(figures))


def _backlog(site: Site, count: int, scale: Scale) -> Sequence[Drained]:
    return [_drain(site, 0, sample_votes.cast(count)) for _ in range(scale.repetitions(OFTEN if count <= SMALL else 1))]


def _rate(drains: Iterable[Drained], first: int) -> Figure:
    return Figure(OURS, "votes/s", tuple(drained.rate(first) for drained in drains))


def _peak_mb(drains: Iterable[Drained]) -> float:
    return max(drained.peak_mb for drained in drains)


def _memory(backlogs: Mapping[int, Sequence[Drained]]) -> str:
    some, many = min(backlogs), max(backlogs)
    bare_mb, imported_mb = backlogs[some][0].bare_mb, backlogs[some][0].imported_mb
    return (
        f"Peak memory is {bare_mb:.0f} MB of a bare interpreter, {imported_mb - bare_mb:.0f} MB of imports (boto3 "
        f"included), and for the work {_peak_mb(backlogs[some]) - imported_mb:.0f} MB at {some:,} queued votes, "
        f"{_peak_mb(backlogs[many]) - imported_mb:.0f} MB at {many:,}."
    )


def _points(rates: Mapping[int, Figure], long: Mapping[int, Figure]) -> Iterator[Comparison]:
    for count, rate in rates.items():
        yield Comparison(f"{count:,} votes queued, the first {min(count, FIRST):,} of them", rate)
        if count > FIRST:
            yield Comparison(f"{count:,} votes queued, the first {min(count, LONGEST):,} of them", long[count])


def _drain(site: Site, rows: int, votes: Iterable[Vote]) -> Drained:
    """Queue *votes* and let a new worker drain at most LONGEST of them; check that none is lost or doubled."""
    site.redis.flushall()
    sample_votes.push(site.redis, votes)
    queued = site.redis.llen(VOTES)
    count = min(queued, LONGEST)
    with site.databases.copy(rows) as url:
        drained = _run_worker(site.redis_url, url, count)
        with psycopg.connect(url) as database:
            tally, counted = VoteTable(database).tally().counts, VoteTable(database).count()
    assert tally == counted
    assert site.redis.llen(VOTES) + site.redis.llen(PROCESSING) == queued - count
    say(
        f"ours: {count:,} of {queued:,} votes into {rows:,} rows: {count / drained.seconds:,.0f} votes/s, "
        f"{drained.cpu_s / drained.seconds:.0%} of a core, {drained.peak_mb:.0f} MB"
    )
    return drained


def _run_worker(redis_url: str, database_url: str, count: int) -> Drained:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT / "layers" / "voting"), str(ROOT)]),
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "BATCH_VOTES": str(BATCH),
        "BROADCAST_FUNCTION": "unused",  # no subscribers
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.load.worker", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            answer, _ = process.communicate("go\n", DEADLINE_S)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        assert process.returncode == 0, log.read()
    return Drained(**json.loads(answer))


def _drain_old(site: Site, rows: int, votes: Sequence[Vote]) -> float:
    site.redis.flushall()
    sample_votes.push(site.redis, votes)
    with site.databases.copy(rows, triggers=False) as url, psycopg.connect(url, autocommit=True) as database:
        started = time.perf_counter()
        assert container_worker.drain(site.redis, database) == len(votes)
        took_s = time.perf_counter() - started
    say(f"old worker: {len(votes):,} votes into {rows:,} rows: {len(votes) / took_s:,.0f} votes/s")
    return took_s


def _copy(site: Site, rows: int, blocks: Sequence[bytes]) -> float:
    with site.databases.copy(rows, triggers=False) as url, psycopg.connect(url, autocommit=True) as database:
        started = time.perf_counter()
        for block in blocks:
            with database.cursor().copy("COPY votes (id, vote) FROM STDIN") as copy:
                copy.write(block)
        took_s = time.perf_counter() - started
    say(f"COPY: {len(blocks)} batches into {rows:,} rows: {len(blocks) * BATCH / took_s:,.0f} votes/s")
    return took_s


def _blocks(votes: Sequence[Vote], order: Callable[[Iterable[str]], Iterable[str]] = iter) -> Iterator[bytes]:
    """For each batch, the rows of its new voters in the format of COPY: as cast, or in an *order* of ids."""
    last = {vote.voter_id: vote.choice for vote in votes}
    for start in range(0, len(votes), BATCH):
        new = {vote.voter_id: None for vote in votes[start : start + BATCH] if vote.voter_id in last}
        yield "".join(f"{voter}\t{last.pop(voter)}\n" for voter in order(new)).encode()


BENCHMARK = Benchmark("drain", "How fast do votes get from the list into the table?", measure)
