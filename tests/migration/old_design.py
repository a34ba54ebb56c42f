"""The container voting app's producer and worker, as they speak to the stores; nothing here is part of the product."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Self

import psycopg
from redis import Redis

IDLE_S = 0.01  # the old worker's pause where the list is empty


def spelled(voter_id: str, choice: str) -> bytes:
    """The old producer's message: its keys come the other way round, spaced as `json.dumps` does."""
    return json.dumps({"voter_id": voter_id, "vote": choice}).encode()


class OldProducer:
    """The Flask application: one LPUSH a vote, no deadline."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def push(self, voter_id: str, choice: str) -> None:
        self._redis.lpush("votes", spelled(voter_id, choice))


class OldWorker:
    """One LPOP, an INSERT, on failure an UPDATE; no lock, no fence, no transaction over more than one row."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self._redis = Redis.from_url(redis_url)
        self._database = psycopg.connect(database_url, autocommit=True)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.log: list[str] = []  # one line a vote, before it is written
        self.popped: Counter[str] = Counter()  # by voter
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let it finish the vote in hand, as one does who scales the service down at a quiet moment."""
        if self._thread.ident is not None:
            self._stopping.set()
            self._thread.join()
        self._redis.close()
        self._database.close()
        if self.failure is not None:
            raise self.failure

    def take(self) -> tuple[str, str] | None:
        """Pop a vote; from here to `store` it is in this process' memory only."""
        message = self._redis.lpop("votes")
        if message is None:
            return None
        vote = json.loads(message)
        self.log.append(f"Processing vote for '{vote['vote']}' by '{vote['voter_id']}'")
        self.popped[vote["voter_id"]] += 1
        return vote["voter_id"], vote["vote"]

    def store(self, voter_id: str, choice: str) -> None:
        try:
            self._database.execute("INSERT INTO votes (id, vote) VALUES (%s, %s)", (voter_id, choice))
        except psycopg.errors.UniqueViolation:
            self._database.execute("UPDATE votes SET vote = %s WHERE id = %s", (choice, voter_id))

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for vote in self._pop_all():
                    self.store(*vote)
                time.sleep(IDLE_S)
        except Exception as error:  # noqa: BLE001 - raised again by stop
            self.failure = error

    def _pop_all(self) -> Iterator[tuple[str, str]]:
        while not self._stopping.is_set() and (vote := self.take()) is not None:
            yield vote
