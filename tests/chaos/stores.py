"""The stores under test: killed without warning, and started again on the same port and data."""

import asyncio
import signal
import socket
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from local.host.processes import Child
from local.host.state_dir import StateDir
from local.stores.postgres import Postgres
from local.stores.store import Server, answers
from local.stores.valkey import Valkey
from tests.chaos.patience import until

START_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
DEADLOCK = b"deadlock detected"


class Store:
    """One server of `local`, without the watcher that would start it again by itself."""

    def __init__(self, server: Server) -> None:
        self.title = server.title
        self.port = 0
        self.deadlocks = 0  # that it has reported
        self._server = server
        self._child: Child | None = None
        self._last_words: deque[bytes] = deque(maxlen=20)

    @property
    def url(self) -> str:
        return self._server.url(self.port)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    async def start(self) -> None:
        """Return when it takes commands, after a crash too.

        Raises:
            Impatient: it does not come up; with its last words.
        """
        await self._server.prepare()
        self.port = self.port or free_port()
        child = self._child = await self._server.launch(self.port, self._hear)
        try:
            await until(lambda: self._server.answers(child, self.port), f"{self.title} to start", START_WITHIN_S)
        except BaseException:
            await self.stop()
            raise

    async def kill(self, number: signal.Signals) -> None:
        """Return when it has died of *number* and its port refuses connections."""
        assert self._child is not None
        self._child.send(number)
        await self._child.wait()
        await until(self._is_closed, f"the port of {self.title} to close", STOP_WITHIN_S)

    async def stop(self) -> None:
        if self._child is not None and self._child.running:
            await self._child.stop(self._server.stop_signal, STOP_WITHIN_S)

    async def _is_closed(self) -> bool:
        return not await answers(self.port)

    def _hear(self, line: bytes) -> None:
        self._last_words.append(line)
        self.deadlocks += DEADLOCK in line


class RedisStore(Store):
    """Valkey that has on disk what it acknowledges: the store for which "no accepted vote is lost" is claimed."""

    def __init__(self, server: Valkey) -> None:
        super().__init__(server)
        self._taken: str | None = None

    @property
    def url(self) -> str:
        return f"redis://default:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def password(self) -> str:
        return self._taken or urlsplit(super().url).password or ""

    async def start(self) -> None:
        await super().start()
        async with Redis.from_url(self.url) as redis:
            await redis.config_set("appendfsync", "always")

    async def take_password(self, password: str) -> None:
        """Answer to *password* from now on, so that clients need not know which of two servers they reach."""
        async with Redis.from_url(self.url) as redis:
            await redis.config_set("requirepass", password)
        self._taken = password


class Stores:
    """Both stores, in one state directory."""

    def __init__(self, folder: Path) -> None:
        self._state = StateDir(folder)
        self._state.open()
        self.redis = RedisStore(Valkey(self._state))
        self.postgres = Store(Postgres(self._state))
        self._replica_state = StateDir(folder.with_name("replica"))
        self._replica_state.open()
        self.replica = RedisStore(Valkey(self._replica_state))  # started by those who need it

    async def start(self) -> None:
        await asyncio.gather(self.redis.start(), self.postgres.start())

    async def close(self) -> None:
        await asyncio.gather(self.redis.stop(), self.postgres.stop(), self.replica.stop())
        self._state.close()
        self._replica_state.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
