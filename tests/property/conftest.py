"""What property tests share: a worker that drains for as long as the test runs."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
from redis import Redis

from tests.stack import wait_for
from voting.clients import Clients
from voting.queue.queue_view import PROCESSING, VOTES
from voting.settings import Settings
from voting.worker.drain import STOP_BEFORE_END_S, Counted, Drain


class Worker:
    """One run of the real worker, on a thread of its own."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self.counted = Counted()
        self._redis = redis
        self._over = threading.Event()
        self._settings = settings
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def drained(self, within_s: float = 20.0) -> None:
        """Return once nothing is queued or in process."""
        wait_for(self._is_drained, "the worker to drain", within_s, every_s=0.001)

    def _is_drained(self) -> bool:
        assert self._thread.is_alive(), "the run broke off"
        return self._redis.llen(VOTES) + self._redis.llen(PROCESSING) == 0

    def _run(self) -> None:
        clients = Clients(self._settings, redis_retries=0)
        drain = Drain(clients, lambda: 0.0 if self._over.is_set() else STOP_BEFORE_END_S + 1, lambda: None)
        self.counted = drain.counted
        drain.run()
        clients.close()


@pytest.fixture
def worker(settings: Settings, redis: Redis, database: psycopg.Connection) -> Iterator[Worker]:
    worker = Worker(settings, redis)
    worker.start()
    yield worker
    worker.stop()
