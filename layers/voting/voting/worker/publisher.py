"""Publishes results while the drain runs: the snapshot follows the tally, and subscribers are sent the snapshot."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import psycopg
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from botocore.exceptions import BotoCoreError, ClientError
from redis.exceptions import RedisError

from voting.broadcast.planner import (
    PRIOR_POSTS_PER_S,
    SILENCE_S,
    Audience,
    Budget,
    Plan,
    Shard,
    TurnPlanner,
    ping_s,
)
from voting.broadcast.subscribers import Subscribers
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.observability import NAMESPACE, logger
from voting.queue.trouble import Trouble
from voting.reason import explain
from voting.results.snapshot import FRESH_S, TROUBLE, Snapshots

POLL_S = 0.2  # for changes by other writers
CONFIRM_EVERY_S = 1.0  # tells readers of the snapshot that it is still the newest
MEASURE_EVERY_S = 60.0
DURATION_WEIGHT = 0.2  # of the last round in the moving average of how long a round takes


class ResultsPublisher:
    """A thread of the worker that reads the tally when it has changed, writes the snapshot and starts broadcasts."""

    def __init__(self, clients: Clients) -> None:
        """Publish with *clients* that no other thread uses: a connection to Postgres serves one thread."""
        self._clients = clients
        self._settings = clients.settings
        self._snapshots = Snapshots(clients.redis())
        self._subscribers = Subscribers(clients.redis())
        self._moved = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._written: tuple[int, float] = (-1, 0.0)  # version, and when
        self._behind_s = 0.0  # for how long votes had waited then without one being counted
        self._told_stale: bool | None = None  # what subscribers were told; None before Redis was asked
        self._trouble = Trouble(clients.redis(), TROUBLE, "the results are not announced")
        self._budget = Budget(self._settings.broadcast_messages_per_s, self._settings.broadcast_interval_ms / 1000)
        self._planner = TurnPlanner(self._budget)
        self._count = 0  # of subscribers, when they were read last
        self._takes_s = 0.0  # to write a snapshot and to read the subscribers: a moving average
        self._measured_at = float("-inf")
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        # It takes half a second of imports: now, while an older run still drains, and not during our first batches.
        self._clients.lambda_()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Publish the last change and stop; raise the error that ended the thread early, if any."""
        self._stopping = True
        self._moved.set()
        self._thread.join()
        self._clients.close()
        if self._failure is not None:
            raise self._failure

    def moved(self) -> None:
        """Note that the tally may have changed; returns at once."""
        self._moved.set()

    def next_turn_at(self) -> float:
        """The latest time to call `moved` so that the next broadcast shows the change (`time.monotonic`)."""
        return self._planner.next_at - self._takes_s

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # noqa: BLE001 - raised again by __exit__, so that the run fails and the alarm goes off
            logger.exception("the publisher has failed")
            self._failure = error

    def _follow(self) -> None:
        pause_s = 0.0
        last = False
        while not last:
            self._moved.wait(pause_s)
            self._moved.clear()
            last = self._stopping
            began = time.monotonic()
            try:
                pause_s = self._publish(began)
                self._trouble.over()
            except psycopg.errors.UndefinedTable:  # the drain is about to install the tally and the role of our session
                self._clients.forget_postgres()
                pause_s = POLL_S
            except (psycopg.Error, RedisError, BotoCoreError, ClientError) as error:
                # Nothing is lost: the next round reads and compares everything again.
                self._trouble.met(explain(error))
                pause_s = POLL_S

    def _publish(self, began: float) -> float:
        """Publish the newest tally; return how long to pause without news.

        If Postgres does not answer, subscribers are told how old their figures are.
        """
        try:
            version = self._write_snapshot()
        except psycopg.Error:
            self._tell_of_age()
            raise
        self._tell(version, is_stale=self._behind_s > FRESH_S)
        return self._set_off_broadcasts(version, began)

    def _tell_of_age(self) -> None:
        snapshot = self._snapshots.read()
        if snapshot is not None and snapshot.stale_s is not None:
            self._tell(snapshot.tally.version, is_stale=True)
            self._set_off_broadcasts(snapshot.tally.version, time.monotonic())

    def _tell(self, version: int, *, is_stale: bool) -> None:
        """Send every subscriber a frame when the figures become stale, and when they are fresh again."""
        if self._told_stale is None:
            self._told_stale = self._snapshots.was_told_stale()
        if is_stale != self._told_stale:
            logger.info("the figures are stale" if is_stale else "the figures are fresh again", version=version)
            self._subscribers.owe_all()
            self._planner.forget_what_is_under_way()
            self._snapshots.note_told(is_stale=is_stale)
            self._told_stale = is_stale

    def _write_snapshot(self) -> int:
        """Bring the snapshot up to date, and return its version."""
        tally = self._clients.on_postgres(lambda connection: VoteTable(connection).tally())
        version, at = self._written
        now = time.monotonic()
        if tally.version == version and now - at < CONFIRM_EVERY_S:
            return version
        there, self._behind_s = self._snapshots.write(tally, ping_s(self._count, self._budget))
        if there > tally.version:
            # Clients have seen versions that this database does not know: it was restored from a backup.
            self._clients.on_postgres(lambda connection: VoteTable(connection).outgrow(there))
            self._moved.set()
        self._written = (tally.version, now)
        return tally.version

    def _set_off_broadcasts(self, version: int, began: float) -> float:
        """Invoke ws_broadcast for the subscribers that are due to get *version*; return how long to pause without news.

        *began* is when this round of the publisher did.
        """
        audience = self._audience()
        self._count = sum(audience.sizes)
        self._measure(self._count)
        took_s = time.monotonic() - began
        todo = self._plan(version, audience)
        if todo.shards:
            self._takes_s += DURATION_WEIGHT * (took_s - self._takes_s)
            self._invoke_all(todo.shards)
        return min(POLL_S, todo.interval_s)

    def _plan(self, version: int, audience: Audience) -> Plan:
        """The turn of broadcasts that begins now. If it begins sooner than another round could, wait for it."""
        todo = self._planner.turn(version, audience, time.monotonic())
        if todo.shards or todo.interval_s > self._takes_s:
            return todo
        time.sleep(todo.interval_s)
        return self._planner.turn(version, audience, time.monotonic())

    def _invoke_all(self, shards: Sequence[Shard]) -> None:
        """Invoke ws_broadcast for each of *shards*; after a failure, plan that one and the rest again."""
        for number, shard in enumerate(shards):
            try:
                self._invoke(shard)
            except (BotoCoreError, ClientError):
                self._planner.call_off(shards[number:])
                raise

    def _invoke(self, shard: Shard) -> None:
        accepted = self._clients.lambda_().invoke(
            FunctionName=self._settings.broadcast_function,
            InvocationType="Event",
            Payload=json.dumps(replace(shard, at=time.time_ns() // 1_000_000).as_event()).encode(),
        )
        accepted["Payload"].read()  # it is empty, but only a connection that was read to its end is used again

    def _audience(self) -> Audience:
        state = self._subscribers.state()
        measured = state.posts_per_s if state.measured_s_ago < SILENCE_S else None
        posts_per_s = PRIOR_POSTS_PER_S if measured is None else measured
        return Audience(state.sizes, state.delivered, posts_per_s, state.served)

    def _measure(self, subscribers: int) -> None:
        if time.monotonic() - self._measured_at > MEASURE_EVERY_S:
            self._measured_at = time.monotonic()
            with single_metric(name="Subscribers", unit=MetricUnit.Count, value=subscribers, namespace=NAMESPACE):
                pass  # printed at the end of the block; `metrics` belongs to the thread of the drain
