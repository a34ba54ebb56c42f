"""One connection through the proxy, and how a stream of it stands still at a mark."""

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from tests.chaos.marks import Mark, Way

if TYPE_CHECKING:
    from tests.chaos.proxy import Proxy

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends RST


class Stop:
    """A line that has come to a mark. Where it was asked to, it stands still there until `release` or `drop`."""

    def __init__(self, line: "Line", way: Way, mark: Mark) -> None:
        self.line = line
        self.mark = mark
        self._way = way

    def release(self) -> None:
        """Let the chunk go on, and what came behind it."""
        self.line.let_go(self._way)
        self.line.proxy.thaw()

    def drop(self) -> None:
        """Lose the chunk, and the connection with it."""
        self.line.cut()
        self.line.proxy.thaw()


class Line:
    """One connection through the proxy: two sockets, and what is on its way between them."""

    def __init__(self, proxy: "Proxy", client: asyncio.Transport) -> None:
        self.proxy = proxy
        self.peer_port: int = client.get_extra_info("peername")[1]  # tells whose connection it is
        self.store_port = 0  # by which the store knows it
        self.client_gone = False
        self.keeps_store = False  # also when its client has gone
        self.deaf = proxy.deaf
        self._reader = proxy.reader()
        self._client = client
        self._store: asyncio.Transport | None = None
        self._queues: tuple[deque[tuple[float, bytes]], ...] = (deque(), deque())  # when due, what
        self._held = [False, False]
        self._pumping = [False, False]

    @property
    def held(self) -> bool:
        return any(self._held)

    def received(self, way: Way, data: bytes) -> None:
        if self.deaf:
            self.proxy.counts["bytes swallowed"] += len(data)
            return
        mark = self._reader.read(way, data)
        if mark is not None and self.proxy.reached(self, way, mark):
            self._held[way] = True
        if self.proxy.delay_s:
            self.proxy.counts["chunks delayed"] += 1
        self._queues[way].append((asyncio.get_running_loop().time() + self.proxy.delay_s, data))
        self.pump(way)

    def connected(self, store: asyncio.Transport) -> None:
        self._store = store
        self.store_port = store.get_extra_info("sockname")[1]
        self.pump(Way.TO_STORE)

    def let_go(self, way: Way) -> None:
        self._held[way] = False
        self.pump(way)

    def pump(self, way: Way) -> None:
        """Send what is due and not held. Chunks keep their order also where the delay changes."""
        queue = self._queues[way]
        target = self._store if way is Way.TO_STORE else self._client
        loop = asyncio.get_running_loop()
        while queue and target is not None and not self._held[way] and not self.proxy.frozen:
            due, data = queue[0]
            if due > loop.time():
                if not self._pumping[way]:
                    self._pumping[way] = True
                    loop.call_at(due, self._pump_later, way)
                return
            queue.popleft()
            if not target.is_closing():
                target.write(data)
        if self.client_gone:
            self._bury()

    def lost_client(self) -> None:
        self.client_gone = True
        self._bury()

    def lost_store(self) -> None:
        self.proxy.lines.discard(self)
        _reset(self._client)

    def cut(self) -> None:
        """Reset both sides; what was on its way is lost."""
        self._discard()
        _reset(self._client)
        _reset(self._store)

    def half_open(self) -> None:
        """Reset the client's side; the store hears nothing of it."""
        self.keeps_store = True
        _reset(self._client)

    def _bury(self) -> None:
        """Close the store's side behind a client that has gone, once it has had everything that was on its way."""
        if not self.keeps_store and not self._queues[Way.TO_STORE]:
            self._discard()
            if self._store is not None:
                self._store.close()

    def _discard(self) -> None:
        self.proxy.lines.discard(self)
        for queue in self._queues:
            queue.clear()

    def _pump_later(self, way: Way) -> None:
        self._pumping[way] = False
        self.pump(way)


def _reset(transport: asyncio.Transport | None) -> None:
    if transport is not None and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
