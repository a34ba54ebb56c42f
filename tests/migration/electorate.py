"""Voters who go on voting on threads while the draining changes hands, and what each was last told is queued."""

import itertools
import random
import threading
from collections.abc import Callable
from typing import Self

import psycopg
from redis import Redis

from tests.migration.old_design import OldProducer
from tests.stack import wait_for
from voting.clients import Clients
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.vote import Vote

HASTY = 2  # threads of voters who do not wait
VOTERS = 60  # of each thread
PATIENT = 5
WAVE = 150  # votes that a hasty thread pushes before it waits for an empty list, for the old worker starves the oldest


class Electorate:
    """Two kinds of voters, each of whom uses the old and the new producer in turn. One voter's votes are serial.

    The patient ones vote again once their last vote is in the table, as people do who vote seconds apart: at most one
    vote of theirs waits at any time. The hasty ones do not wait.
    """

    def __init__(self, settings: Settings, *, patient: int = PATIENT) -> None:
        self.hasty: dict[str, str] = {}  # the last choice of each
        self.patient: dict[str, str] = {}
        self.voted_since_mark: set[str] = set()
        self.pushed = 0
        self._settings = settings
        self._over = threading.Event()
        self._noting = threading.Lock()
        self._failures: list[Exception] = []
        self._patient = patient
        kinds: list[Callable[[], None]] = [self._be_hasty] * HASTY + [self._be_patient] * bool(patient)
        self._threads = [threading.Thread(target=self._try, args=(kind,)) for kind in kinds]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return once the last vote of each voter is queued; the list may still be long."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures, self._failures

    @property
    def last(self) -> dict[str, str]:
        return self.hasty | self.patient

    def go_on(self, votes: int = 500) -> None:
        """Return once *votes* further votes were pushed."""
        until = self.pushed + votes
        wait_for(lambda: self._failures or self.pushed >= until, f"{votes} votes")
        assert not self._failures, self._failures

    def mark(self) -> None:
        """Note in `voted_since_mark` who votes from here on."""
        with self._noting:
            self.voted_since_mark = set()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again by go_on and at the end
            self._failures.append(error)

    def _be_hasty(self) -> None:
        rng = random.Random()
        me = threading.get_ident()
        with Producers(self._settings) as producers:
            while not self._over.is_set():
                for _ in range(rng.randrange(WAVE)):
                    voter, choice = f"hasty-{me}-{rng.randrange(VOTERS)}", rng.choice("ab")
                    producers.push(voter, choice)
                    self._note(self.hasty, voter, choice)
                wait_for(lambda: self._over.is_set() or not producers.waiting(), "an empty list", every_s=0.002)

    def _be_patient(self) -> None:
        choices = itertools.cycle("ab")  # each other than the last, so that the table tells which one it holds
        with Producers(self._settings) as producers, psycopg.connect(self._settings.database_url) as database:
            database.autocommit = True
            while not self._over.is_set():
                choice = next(choices)
                for number in range(self._patient):
                    voter = f"patient-{number}"
                    producers.push(voter, choice)
                    self._note(self.patient, voter, choice)
                wait_for(lambda: self._over.is_set() or self._shown(database), "the votes of the patient")

    def _shown(self, database: psycopg.Connection) -> bool:
        rows = database.execute("SELECT id, vote FROM votes WHERE id LIKE 'patient-%'").fetchall()
        return dict(rows) == self.patient

    def _note(self, last: dict[str, str], voter: str, choice: str) -> None:
        with self._noting:  # a voter belongs to one thread, so this is in the order of the voter's pushes
            last[voter] = choice
            self.voted_since_mark.add(voter)
            self.pushed += 1


class Producers:
    """The old producer and ours, in turn."""

    def __init__(self, settings: Settings) -> None:
        self._clients = Clients(settings, redis_retries=0)
        self._redis = Redis.from_url(settings.redis_url)
        old, queue = OldProducer(self._redis), VoteQueue(self._clients.redis())
        self._pushes = itertools.cycle([old.push, lambda voter, choice: queue.push(Vote(choice, voter))])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()
        self._clients.close()

    def push(self, voter: str, choice: str) -> None:
        next(self._pushes)(voter, choice)

    def waiting(self) -> int:
        """How many votes wait in the list."""
        return int(self._redis.llen("votes"))
