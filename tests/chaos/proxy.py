"""A TCP proxy in front of one server: it passes, delays, cuts, half-opens, goes deaf, and stops a stream at a mark."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from tests.chaos.line import Line, Stop
from tests.chaos.marks import Mark, Reader, Way

_BACKLOG = 512


@dataclass(slots=True)
class _Watch:
    names: Collection[str]
    matches: Callable[[Line, Mark], bool]
    hold: str  # nothing; "line": the chunk and what follows it that way; "proxy": every line, both ways
    found: "asyncio.Future[Stop]"


class Proxy:
    """Listens on one port for the life of the suite. All its methods belong to the thread of its event loop."""

    def __init__(self, reader: Callable[[], Reader]) -> None:
        self.reader = reader
        self.port = 0
        self.store_port = 0
        self.lines: set[Line] = set()
        self.delay_s = 0.0
        self.deaf = False  # new connections are accepted and what they bring is swallowed
        self.frozen = False
        self.counts: Counter[str] = Counter()  # marks by name, bytes swallowed, chunks delayed, connections
        self._watches: list[_Watch] = []
        # Not asyncio.Server: of a connection that it accepts in the moment of its close it leaves the socket open, for
        # nobody to serve (CPython issue 109564).
        self._listener: socket.socket | None = None
        self._place: socket.socket | None = None  # bound to the port: while nobody listens, no connection may take it
        self._greeting: set[asyncio.Task[None]] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> bool:
        return self._listener is not None

    async def open(self, store_port: int = 0) -> None:
        """Listen, again on the same port after `shut`. Until *store_port* is known, connections are reset."""
        self.store_port = store_port or self.store_port
        if self._place is None:
            self._place = _bound(0)
            self.port = self._place.getsockname()[1]
        self._listener = _bound(self.port)
        self._listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def shut(self) -> None:
        """Refuse connections, as a server does that is not there; cut those that are open."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await asyncio.gather(*self._greeting)
        self.cut()

    async def close(self) -> None:
        await self.shut()
        if self._place is not None:
            self._place.close()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports close their sockets

    def expect(
        self,
        names: str | Collection[str],
        matches: Callable[[Line, Mark], bool] = lambda _line, _mark: True,
        *,
        hold: str = "",
    ) -> "asyncio.Future[Stop]":
        """Wait for the next mark of *names* that *matches*; with *hold* ("line" or "proxy") stop the stream there."""
        found: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self._watches.append(_Watch({names} if isinstance(names, str) else names, matches, hold, found))
        return found

    def reached(self, line: Line, way: Way, mark: Mark) -> bool:
        """Tell those who wait for it; return whether the line is to stand still."""
        self.counts[mark.name] += 1
        hold = False
        for watch in tuple(self._watches):
            if watch.found.done():  # nobody waits for it any more
                self._watches.remove(watch)
            elif mark.name in watch.names and watch.matches(line, mark):
                self._watches.remove(watch)
                watch.found.set_result(Stop(line, way, mark))
                hold = hold or bool(watch.hold)
                self.frozen = self.frozen or watch.hold == "proxy"
        return hold

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        lines = tuple(self.lines)
        for line in lines:
            line.cut()
        return len(lines)

    def half_open(self) -> list[Line]:
        """Reset the clients' side of every connection, and leave the store's open; return what was left so."""
        lines = [line for line in self.lines if not line.client_gone]
        for line in lines:
            line.half_open()
        return lines

    def deafen(self) -> None:
        """Swallow what comes, on the connections that there are and on those that come until `heal`."""
        self.deaf = True
        for line in self.lines:
            line.deaf = True

    def thaw(self) -> None:
        """End a hold of the whole proxy."""
        self.frozen = False
        for line in tuple(self.lines):
            for way in Way:
                line.pump(way)

    def heal(self) -> None:
        """Pass everything on again; connections that were tampered with are reset."""
        self.delay_s = 0.0
        self.deaf = False
        for line in tuple(self.lines):
            if line.deaf or line.keeps_store or line.held:
                line.cut()
        self.thaw()

    def attach(self, line: Line) -> None:
        self.counts["connections"] += 1
        self.lines.add(line)
        if not line.deaf:
            task = asyncio.create_task(self._connect(line))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                client, _ = listener.accept()
                client.setblocking(False)
                task = asyncio.create_task(self._greet(client))
                self._greeting.add(task)
                task.add_done_callback(self._greeting.discard)

    async def _greet(self, client: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: _ClientEnd(self), client)

    async def _connect(self, line: Line) -> None:
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: _StoreEnd(line), "127.0.0.1", self.store_port
            )
        except OSError:  # the store is away: its client shall see a connection that breaks
            line.cut()
            return
        line.connected(transport)


class _ClientEnd(asyncio.Protocol):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._line: Line | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._line = Line(self._proxy, transport)
        self._proxy.attach(self._line)

    def data_received(self, data: bytes) -> None:
        assert self._line is not None
        self._line.received(Way.TO_STORE, data)

    def connection_lost(self, _exc: Exception | None) -> None:
        assert self._line is not None
        self._line.lost_client()


class _StoreEnd(asyncio.Protocol):
    def __init__(self, line: Line) -> None:
        self._line = line

    def data_received(self, data: bytes) -> None:
        self._line.received(Way.TO_CLIENT, data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._line.lost_store()


def _bound(port: int) -> socket.socket:
    """A socket on *port* of the loopback, beside others that do not listen."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    bound.setblocking(False)
    return bound
