"""Everything that a fault can lay hands on, and the moves that faults share."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.ledger import Ledger
from tests.chaos.line import Line, Stop
from tests.chaos.load import Load
from tests.chaos.marks import Mark, PlainReader, PostgresReader, PostReader, RedisReader
from tests.chaos.patience import Impatient, until, within
from tests.chaos.proxy import Proxy
from tests.chaos.replication import follow
from tests.chaos.stack import WORKER, Stack
from tests.chaos.stores import RedisStore, Store, Stores
from tests.chaos.subscribers import Audience
from tests.chaos.watch import Watch
from tests.chaos.witness import Witness

# Small batches, so that a few thousand votes are many batches; the intervals leave the processor to the votes.
SETTINGS = {
    "BATCH_VOTES": "50",
    "BROADCAST_INTERVAL_MS": "500",
    "ACCEPT_LEGACY_IDS": "true",
    "COOKIE_KEYS": "a-key-for-the-chaos-suite-of-more-than-32-characters",
}
WORKER_WITHIN_S = 30.0  # a cold start on a busy machine
STEP_WITHIN_S = 20.0
BACKLOG_WITHIN_S = 0.6  # less than the worker waits for the answer to a claim


class Unseen(Exception):
    """The fault was struck and nothing of its effect was seen: it does not count."""


@dataclass
class Scene:
    """The system, its stores, the proxies between them, and the voters of the round."""

    folder: Path
    rng: random.Random = field(default_factory=random.Random)
    notes: list[str] = field(default_factory=list)  # what a fault saw that should not be
    is_replicated: bool = False  # Redis has a replica, and votes wait for it

    def __post_init__(self) -> None:
        self.stores = Stores(self.folder / "stores")
        self.stack = Stack(self.folder / "stack")
        self.redis = Proxy(RedisReader)
        self.postgres = Proxy(PostgresReader)
        self.posts = Proxy(PostReader)
        self.replication = Proxy(PlainReader)
        self.audience = Audience()
        self.witness = Witness()
        self.watch = Watch(self.witness)
        self._load: Load | None = None

    @property
    def load(self) -> Load:
        assert self._load is not None
        return self._load

    @load.setter
    def load(self, load: Load) -> None:
        self._load = load

    @property
    def replica(self) -> RedisStore:
        return self.stores.replica

    @property
    def ledger(self) -> Ledger:
        return self.load.ledger

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        return self.redis, self.postgres, self.posts, self.replication

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Scene"]:
        """Start everything, and stop everything."""
        asyncio.get_running_loop().set_exception_handler(self._note_failure)
        try:
            await self.stores.start()
            await self.redis.open(self.stores.redis.port)
            await self.postgres.open(self.stores.postgres.port)
            await self.posts.open()
            if self.is_replicated:
                await self._replicate()
            await self.stack.start(
                SETTINGS
                | ({"CONFIRM_BY_REPLICA": "true"} if self.is_replicated else {})
                | {
                    "REDIS_URL": _through(self.redis, self.stores.redis),
                    "DATABASE_URL": _through(self.postgres, self.stores.postgres),
                    "WEBSOCKET_URL": f"ws://127.0.0.1:{self.posts.port}/live",
                }
            )
            self.posts.store_port = int(self.stack.websocket.split(":")[2].split("/")[0])
            await until(self._has_table, "the first run of the worker to make the table", WORKER_WITHIN_S)
            await self.audience.open(self.stack.websocket)
            await self.witness.open(self.stack.http)
            self.watch.open(self.stores.redis.url)
            yield self
        finally:
            await self.watch.close()
            await self.witness.close()
            await self.audience.close()
            await self.stack.stop()
            for proxy in self.proxies:
                await proxy.close()
            await self.stores.close()

    async def _replicate(self) -> None:
        """Make the second Redis a replica of the first, through the proxy that a fault can deafen."""
        password = self.stores.redis.password
        await self.replica.start()
        await self.replica.take_password(password)
        await self.replication.open(self.stores.redis.port)
        await follow(self.replica.url, self.replication.port, password)

    def _note_failure(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault of the suite itself, in a callback that nobody waits for, must not pass in silence."""
        self.notes.append(f"the suite failed: {context['message']} {context.get('exception')!r}")

    async def empty(self) -> None:
        """Leave no vote and no dead letter behind. Everything must have been drained."""
        await self.sql("TRUNCATE votes")
        async with self.direct_redis() as redis:
            await redis.delete("{votes}:dead")

    async def heal(self) -> None:
        """Mend whatever a fault that broke off has left."""
        for pid in self.stack.functions(WORKER):
            self.stack.signal(pid, signal.SIGCONT)
        for store, proxy in ((self.stores.redis, self.redis), (self.stores.postgres, self.postgres)):
            if not store.running:
                await self.start_again(store, proxy)
        for proxy in self.proxies:
            proxy.heal()

    async def start_again(self, store: Store, proxy: Proxy) -> None:
        await store.start()
        if not proxy.listening:
            await proxy.open()

    # ------------------------------------------------------------ moves of the worker

    async def worker_runs(self) -> None:
        """Return when a run claims; set one off where none does."""
        claim = self.redis.expect("claim")
        try:
            await within(2.0, asyncio.shield(claim), "a claim")
        except Impatient:
            await self.stack.run_worker()
            await within(WORKER_WITHIN_S, claim, "a run of the worker to claim")

    async def token(self) -> int:
        """The token of the newest run."""
        return int((await self.sql("SELECT token FROM voting.vote_worker_fence"))[0][0])

    async def newer_run(self) -> int:
        """Set off a run, and return its token once it claims."""
        than = await self.token()
        claim = self.redis.expect("claim", lambda _line, mark: mark.token > than)
        await self.stack.run_worker()
        return (await within(WORKER_WITHIN_S, claim, "a newer run to claim")).mark.token

    async def stop_worker_at(
        self, proxy: Proxy, name: str, matches: Callable[[Line, Mark], bool] = lambda _line, _mark: True
    ) -> tuple[Stop, int]:
        """Let votes pile up, so that the batch is worth something; then stop its worker at a mark. Return its pid."""
        await self.worker_runs()
        async with self.backlog():
            step = proxy.expect(name, matches, hold="line")
        stop = await within(STEP_WITHIN_S, step, f"the worker to come to {name}")
        pid = await self.owner(stop, WORKER)
        return stop, pid

    @asynccontextmanager
    async def backlog(
        self, votes: int = 40, matches: Callable[[Line, Mark], bool] = lambda _line, _mark: True
    ) -> AsyncIterator[Stop]:
        """Hold the next claim that *matches* until *votes* wait behind it; leaving lets it go."""
        claim = await within(STEP_WITHIN_S, self.redis.expect("claim", matches, hold="line"), "a claim")
        try:
            with suppress(Impatient):  # then it is a smaller one
                await until(lambda: self._waiting(votes), "votes to pile up", BACKLOG_WITHIN_S)
            yield claim
        finally:
            claim.release()

    async def owner(self, stop: Stop, name: str) -> int:
        """The process of the function *name* at the client's end of a line."""
        pid = self.stack.owner(stop.line.peer_port, name)
        if pid is None:
            stop.release()
            raise Unseen(f"the line belongs to no process of {name}")
        return pid

    async def more_votes(self, count: int) -> None:
        """Return when *count* more votes were accepted."""
        goal = self.load.accepted + count
        await until(lambda: self.load.accepted >= goal, f"{count} more votes", STEP_WITHIN_S)

    # ------------------------------------------------------------ looks behind the proxies

    def direct_redis(self) -> Redis:
        return Redis.from_url(self.stores.redis.url)

    async def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database past the proxy; return the rows, none where the query gives none."""
        async with await self.connect() as connection:
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def connect(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(self.stores.postgres.url, autocommit=True)

    async def queued(self) -> int:
        async with self.direct_redis() as redis:
            return int(await redis.llen("votes") + await redis.llen("{votes}:processing"))

    async def oldest(self) -> bytes | None:
        """The message that is counted next; None where none waits."""
        async with self.direct_redis() as redis:
            return await redis.lindex("{votes}:processing", -1) or await redis.lindex("votes", -1)

    async def _waiting(self, votes: int) -> bool:
        try:
            return await self.queued() >= votes
        except (RedisError, OSError):
            return False

    async def _has_table(self) -> bool:
        return bool((await self.sql("SELECT to_regclass('voting.vote_tally') IS NOT NULL"))[0][0])


def _through(proxy: Proxy, store: Store) -> str:
    return store.url.replace(f":{store.port}/", f":{proxy.port}/")
