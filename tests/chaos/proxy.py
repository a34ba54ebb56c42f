"""A TCP proxy in front of one server: it passes, delays, cuts, half-opens, goes deaf, and stops a stream at a mark."""

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from tests.chaos.marks import Mark, Reader, Way

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends RST
_BACKLOG = 512


@dataclass(slots=True)
class _Watch:
    names: Collection[str]
    matches: Callable[["Line", Mark], bool]
    hold: str  # nothing; "line": the chunk and what follows it that way; "proxy": every line, both ways
    found: "asyncio.Future[Stop]"


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


def _reset(transport: asyncio.Transport | None) -> None:
    if transport is not None and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
