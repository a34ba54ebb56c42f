"""What a resolver answers, as a test chooses, and an address where packets go nowhere.

IPv6 is IPv4 mapped into it: a socket of the family AF_INET6 reaches 127.0.0.1, also where `::1` is missing.
"""

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

Answer = tuple[int, int, int, str, tuple[Any, ...]]  # as getaddrinfo has them
QUEUED = 4  # more than a backlog of 0 takes


def ipv4(port: int, host: str = "127.0.0.1") -> Answer:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


def ipv6(port: int) -> Answer:
    return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::ffff:127.0.0.1", port, 0, 0))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: Answer, only: str | None = None) -> None:
    """Have every name, or *only* this one, resolved to *answers*, in this order."""
    resolve = socket.getaddrinfo

    def answer(host: Any, *arguments: Any, **options: Any) -> Any:
        return list(answers) if only in {None, host} else resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port of this machine where no attempt to connect gets an answer, as in a network that drops packets."""
    with ExitStack() as closing:
        listener = closing.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(QUEUED):  # a full queue drops what else arrives
            client = closing.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        _, last, _ = select.select([], [client], [], 0.1)
        assert not last
        yield port
