"""Connects to whichever address of a host answers first, by RFC 8305 ("Happy Eyeballs").

A network may drop the packets of one family without a word, as `Egress=ipv6` does with IPv4. Trying one address after
the other then waits for a whole timeout before the one that works.
"""

import errno
import os
import selectors
import socket
import threading
import time
from collections import deque
from itertools import chain, zip_longest
from math import inf
from typing import Any

ATTEMPT_DELAY_S = 0.25  # before the next address is tried too: section 5 of the RFC
MOST_SOCKETS = 960  # of one selector: Lambda allows a process 1,024 open files

Address = tuple[int, tuple[Any, ...]]  # family, and the argument of connect()


class Lookup:
    """A lookup of a name, on a thread of its own: a resolver may take tens of seconds to give up."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._done = threading.Event()
        self._addresses: list[Address] = []
        self._failure = "it has no address"
        threading.Thread(target=self._look_up, name="lookup", daemon=True).start()

    def addresses(self, within_s: float) -> list[Address]:
        """Return the addresses in the resolver's order.

        Raises:
            TimeoutError: the resolver did not answer within *within_s*. It may be asked again.
            socket.gaierror: the name has no address, or the resolver failed.
        """
        if not self._done.wait(within_s):
            raise TimeoutError(f"{self._host} could not be resolved in time")
        if not self._addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"{self._host} cannot be resolved: {self._failure}")
        return self._addresses

    def _look_up(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = [(family, address) for family, _, _, _, address in found]
        except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is empty or too long
            self._failure = str(error)
        finally:
            self._done.set()


def interleave(addresses: list[Address], first: int | None = None) -> list[Address]:
    """Return *addresses* with the families in turn (section 4), beginning with *first* or the resolver's first."""
    leading = addresses[0][0] if first is None else first
    one = [address for address in addresses if address[0] == leading]
    other = [address for address in addresses if address[0] != leading]
    return [address for address in chain.from_iterable(zip_longest(one, other)) if address is not None]


class Race:
    """Attempts to connect, one begun after the other; the first that succeeds wins, and the others are closed."""

    def __init__(self, addresses: list[Address], selector: selectors.BaseSelector, data: Any = None) -> None:
        """Begin to connect. *selector* reports when to call `advance`; the data of its keys is *data*.

        Raises:
            OSError: every address failed at once.
        """
        self._selector = selector
        self._data = data
        self._waiting = deque(addresses)
        self._attempts: dict[socket.socket, Address] = {}  # under way, the oldest first
        self._failure = 0
        self._due_at = 0.0
        self._begin_due()

    @property
    def due_at(self) -> float:
        """Monotonic time at which to call `advance` even if no socket is ready; infinity if nothing is left to try."""
        return self._due_at if self._waiting else inf

    def advance(self) -> tuple[socket.socket, Address] | None:
        """Begin what is due; return the connected socket, non-blocking and in no selector, once there is one.

        Raises:
            OSError: every address has failed; the error is the last one's.
        """
        for attempt, address in tuple(self._attempts.items()):
            if failure := attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._end(attempt)
                self._failure, self._due_at = failure, 0.0
            elif _is_connected(attempt):
                self._forget(attempt)
                self.close()
                return attempt, address
        self._begin_due()
        return None

    def close(self) -> None:
        """End all attempts."""
        for attempt in tuple(self._attempts):
            self._end(attempt)

    def _begin_due(self) -> None:
        while self._waiting and time.monotonic() >= self._due_at:
            if self._attempts and len(self._selector.get_map()) >= MOST_SOCKETS:
                self._end(next(iter(self._attempts)))  # the oldest has had the most time
            self._begin(self._waiting.popleft())
        if not self._attempts:
            raise OSError(self._failure, os.strerror(self._failure))

    def _begin(self, address: Address) -> None:
        """Begin to connect to *address*; if that fails at once, the next one is due."""
        try:
            attempt = socket.socket(address[0], socket.SOCK_STREAM)
        except OSError as error:  # this system has no such family
            self._failure = error.errno or 0
            return
        attempt.setblocking(False)
        failure = attempt.connect_ex(address[1])
        if failure not in {0, errno.EINPROGRESS}:
            attempt.close()
            self._failure = failure
            return
        self._selector.register(attempt, selectors.EVENT_WRITE, self._data)
        self._attempts[attempt] = address
        self._due_at = time.monotonic() + ATTEMPT_DELAY_S

    def _end(self, attempt: socket.socket) -> None:
        self._forget(attempt)
        attempt.close()

    def _forget(self, attempt: socket.socket) -> None:
        self._selector.unregister(attempt)
        del self._attempts[attempt]


def connect(host: str, port: int, within_s: float, first: int | None = None) -> socket.socket:
    """Return a non-blocking socket that is connected to *host*; addresses of the family *first* are tried first.

    Raises:
        TimeoutError: neither the resolver nor any address answered within *within_s*.
        socket.gaierror: the name has no address.
        OSError: every address has failed.
    """
    give_up_at = time.monotonic() + within_s
    addresses = interleave(Lookup(host, port).addresses(within_s), first)
    with selectors.DefaultSelector() as selector:
        race = Race(addresses, selector)
        try:
            while (won := race.advance()) is None:
                pause_s = min(race.due_at, give_up_at) - time.monotonic()
                if time.monotonic() >= give_up_at:
                    raise TimeoutError(f"no address of {host} answered in time")
                selector.select(max(0.0, pause_s))
        finally:
            race.close()
    return won[0]


def _is_connected(attempt: socket.socket) -> bool:
    try:
        attempt.getpeername()
    except OSError:  # while the attempt lasts
        return False
    return True
