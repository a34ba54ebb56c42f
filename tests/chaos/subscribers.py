"""Subscribers of the live results, who must all show the final figures in the end."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

SUBSCRIBERS = 20
PING_EVERY_S = 120.0  # a registration expires after 15 minutes without one


class Subscriber:
    """One page: it drops what is older than what it shows."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.shown: dict[str, Any] = {"version": -1}
        self.stepped_back = 0  # frames that were older than what it showed: allowed, and dropped

    async def read(self) -> None:
        async for frame in self._socket:
            results = json.loads(frame)
            if results["type"] != "results":
                continue
            if results["version"] >= self.shown["version"]:
                self.shown = results
            else:
                self.stepped_back += 1

    async def send(self, action: str) -> None:
        await self._socket.send(json.dumps({"action": action}))


class Audience:
    """Everybody who watches."""

    def __init__(self) -> None:
        self.subscribers: list[Subscriber] = []
        self._sockets: list[ClientConnection] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, url: str, count: int = SUBSCRIBERS) -> None:
        for _ in range(count):
            socket = await connect(url, proxy=None, ping_interval=None)
            subscriber = Subscriber(socket)
            self._sockets.append(socket)
            self.subscribers.append(subscriber)
            self._tasks.append(asyncio.create_task(subscriber.read()))
            await subscriber.send("subscribe")
        self._tasks.append(asyncio.create_task(self._ping()))

    async def close(self) -> None:
        self._tasks[-1:] and self._tasks[-1].cancel()
        await asyncio.gather(*(socket.close() for socket in self._sockets))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def all_show(self, version: int, votes: dict[str, int]) -> bool:
        """Whether everybody shows *version* or a later one, with these *votes*."""
        return all(
            subscriber.shown["version"] >= version
            and {option["id"]: option["votes"] for option in subscriber.shown["options"]} == votes
            for subscriber in self.subscribers
        )

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            await asyncio.gather(*(subscriber.send("ping") for subscriber in self.subscribers))
