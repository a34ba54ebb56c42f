"""From vote to screen in the old design: ten votes per second, results polled once a second.

The emulation is kind to it: votes reach the list without a web service, and a polled result is on all screens at once.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from redis import Redis

from bench.harness.stores import Stores
from bench.load.voters import moments
from tests.migration.old_design import OldProducer, OldWorker

PAUSE_S = 0.1  # of the old worker, in each round of its loop
POLL_EVERY_S = 1.0
TABLE = """
DROP TABLE IF EXISTS votes CASCADE;
CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)
"""


def latencies_s(stores: Stores, count: int, seconds: float, seed: int) -> list[float]:
    """Cast *count* votes within *seconds*; return how long each took to the screen.

    The window ends with the last vote and one more poll. A vote that is not on the screen by then counts as shown at
    that moment, which is too early.
    """
    with Redis.from_url(stores.redis_url) as redis, _worker(stores) as stored, _poll(stores) as polls:
        redis.delete("votes")
        producer = OldProducer(redis)
        begin = time.monotonic()
        due = [begin + moment for moment in moments(count, seconds, seed)]
        for number, moment in enumerate(due):
            time.sleep(max(0.0, moment - time.monotonic()))
            producer.push(str(number), "ab"[number % 2])
        time.sleep(POLL_EVERY_S + PAUSE_S)
        end = time.monotonic()
        shown = dict(stored)
        answered = list(polls)
    return [shown_at(shown.get(str(number)), answered, end) - moment for number, moment in enumerate(due)]


def shown_at(stored: float | None, polls: list[tuple[float, float]], end: float) -> float:
    """When the first poll that began after the commit was answered; *end* if there was none."""
    if stored is None:
        return end
    return min((answered for began, answered in polls if began >= stored), default=end)


@contextmanager
def _worker(stores: Stores) -> Iterator[dict[str, float]]:
    """Run the old worker with its pause; yield the times at which it stored each vote."""
    with psycopg.connect(stores.postgres_url, autocommit=True) as database:
        database.execute(TABLE)
    worker = OldWorker(stores.redis_url, stores.postgres_url)
    stored: dict[str, float] = {}

    def work(stopping: threading.Event) -> None:
        while not stopping.wait(PAUSE_S):
            vote = worker.take()
            if vote is not None:
                worker.store(*vote)
                stored[vote[0]] = time.monotonic()

    with _thread(work):
        yield stored
    worker.stop()


@contextmanager
def _poll(stores: Stores) -> Iterator[list[tuple[float, float]]]:
    """Query the results once a second, as the old result service does; yield the start and end of each poll."""
    polls: list[tuple[float, float]] = []
    with psycopg.connect(stores.postgres_url, autocommit=True) as database:

        def poll(stopping: threading.Event) -> None:
            while not stopping.wait(POLL_EVERY_S):
                began = time.monotonic()
                database.execute("SELECT vote, count(id) AS count FROM votes GROUP BY vote").fetchall()
                polls.append((began, time.monotonic()))

        with _thread(poll):
            yield polls


class _Thread(threading.Thread):
    """A thread that keeps its error for the one that joins it."""

    failure: Exception | None = None

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - raised again by _thread
            self.failure = error


@contextmanager
def _thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    stopping = threading.Event()
    thread = _Thread(target=work, args=(stopping,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if thread.failure is not None:
        raise thread.failure
