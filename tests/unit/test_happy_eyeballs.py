"""Connecting to the first of several addresses that answers."""

import errno
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.resolver import black_hole, ipv4, ipv6, resolve_to
from voting import happy_eyeballs
from voting.happy_eyeballs import Address, Lookup, Race, connect, interleave

DEAD = ipv4(1)  # where nothing listens: refused at once
WITHIN_S = 5.0
A, B, C = ((socket.AF_INET, (f"192.0.2.{i}", 443)) for i in (1, 2, 3))
D, E = ((socket.AF_INET6, (f"2001:db8::{i}", 443, 0, 0)) for i in (1, 2))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def port(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


@pytest.fixture
def hole() -> Iterator[int]:
    with black_hole() as port:
        yield port


def accepted(listener: socket.socket) -> int:
    """How many connections have been made to *listener*."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def addresses(*answers: tuple) -> list[Address]:
    return [(family, address) for family, _, _, _, address in answers]


@pytest.mark.parametrize(
    ("resolved", "first", "tried"),
    [
        ([A, B, C, D, E], None, [A, D, B, E, C]),
        ([A, B, C, D, E], socket.AF_INET6, [D, A, E, B, C]),
        ([D, E, A], None, [D, A, E]),
        ([D, E, A], socket.AF_INET, [A, D, E]),
        ([A, B], socket.AF_INET6, [A, B]),
        ([D], None, [D]),
    ],
)
def test_families_take_turns(resolved: list[Address], first: int | None, tried: list[Address]) -> None:
    assert interleave(resolved, first) == tried


def test_an_address_that_answers_wins_against_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch, port: int, hole: int
) -> None:
    resolve_to(monkeypatch, ipv4(hole), ipv6(port), ipv4(hole))
    with closing(connect("host", 443, WITHIN_S)) as won:
        assert won.getpeername()[1] == port


def test_addresses_that_refuse_are_passed_over(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    resolve_to(monkeypatch, DEAD, ipv6(1), DEAD, ipv6(port))
    with closing(connect("host", 443, WITHIN_S)) as won:
        assert won.getpeername()[1] == port


def test_one_family_is_enough(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    resolve_to(monkeypatch, ipv6(port))
    with closing(connect("host", 443, WITHIN_S, socket.AF_INET)) as won:
        assert won.family == socket.AF_INET6


def test_a_family_that_this_system_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    lacking = (socket.AF_X25, socket.SOCK_STREAM, 6, "", ("", 1))
    resolve_to(monkeypatch, lacking, ipv4(port))
    with closing(connect("host", 443, WITHIN_S)) as won:
        assert won.family == socket.AF_INET


@pytest.mark.parametrize("prefers", [socket.AF_INET, socket.AF_INET6])
def test_the_other_family_is_not_tried_where_the_preferred_one_works(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, port: int, prefers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        another = other.getsockname()[1]
        wanted, unwanted = (ipv4, ipv6) if prefers == socket.AF_INET else (ipv6, ipv4)
        resolve_to(monkeypatch, unwanted(another), wanted(port))
        for _ in range(3):
            connect("host", 443, WITHIN_S, prefers).close()
        assert (accepted(listener), accepted(other)) == (3, 0)


def test_nothing_that_answers_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch, hole: int) -> None:
    resolve_to(monkeypatch, ipv4(hole), ipv6(hole))
    with pytest.raises(TimeoutError, match="no address of host answered in time"):
        connect("host", 443, 0.6)
    resolve_to(monkeypatch, DEAD, ipv6(1))
    with pytest.raises(ConnectionRefusedError) as refused:
        connect("host", 443, WITHIN_S)
    assert refused.value.errno == errno.ECONNREFUSED


def test_a_name_without_an_address_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch)
    with pytest.raises(socket.gaierror, match="host cannot be resolved: it has no address"):
        connect("host", 443, WITHIN_S)


@pytest.mark.parametrize("failure", [socket.gaierror(socket.EAI_AGAIN, "try again"), UnicodeError("label too long")])
def test_what_the_resolver_says_is_the_reason(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(socket.gaierror, match=r"host cannot be resolved: .*(try again|label too long)"):
        connect("host", 443, WITHIN_S)


def test_a_resolver_that_does_not_answer_is_not_waited_for_and_its_answer_not_lost(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    may_answer = threading.Event()

    def answer_late(*_: object, **__: object) -> list:
        assert may_answer.wait(60)
        return [ipv4(port)]

    monkeypatch.setattr(socket, "getaddrinfo", answer_late)
    lookup = Lookup("host", 443)
    with pytest.raises(TimeoutError, match="host could not be resolved in time"):
        lookup.addresses(0.05)
    may_answer.set()
    assert lookup.addresses(60) == addresses(ipv4(port))


def test_without_room_for_another_socket_the_oldest_attempt_gives_way(
    monkeypatch: pytest.MonkeyPatch, port: int, hole: int
) -> None:
    monkeypatch.setattr(happy_eyeballs, "MOST_SOCKETS", 2)
    monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY_S", 0.0)
    with selectors.DefaultSelector() as selector:
        race = Race(addresses(*[ipv4(hole)] * 5, ipv4(port)), selector)
        assert len(selector.get_map()) == 2
        while (won := race.advance()) is None:
            selector.select(1)
        assert not selector.get_map()  # the losers are closed
    with closing(won[0]):
        assert won[0].getpeername()[1] == port
