"""What the load test concludes from its votes, the API and the stores: covers api_audit, store_audit and voter."""

import asyncio
from collections import Counter

import pytest

from votectl.loadtest.api_audit import Movement, compare, follow
from votectl.loadtest.api_client import NoAnswer
from votectl.loadtest.store_audit import Accounts, Holdings, account
from votectl.loadtest.voter import Cast, Voter


def voter(casts: str, id_: str = "x") -> Voter:
    """A voter by a short hand: `a` and `b` were accepted, `a?` got no answer, `a!` was refused."""
    found: list[Cast] = []
    for mark in casts:
        if mark in "ab":
            found.append(Cast(mark, "accepted"))
        else:
            found[-1] = Cast(found[-1].choice, {"?": "maybe", "!": "refused"}[mark])
    is_known = any(cast.outcome == "accepted" for cast in found)
    return Voter({"voter_id": id_} if is_known else {}, found)


def held(**changes) -> Holdings:
    return Holdings(**({"rows": {}, "queued": {}, "in_process": {}, "parked": Counter()} | changes))


def audited(casts: str, **changes) -> Accounts:
    return account([voter(casts)], held(**changes))


@pytest.mark.parametrize(
    ("casts", "holdings"),
    [
        ("a", {"rows": {"x": "a"}}),
        ("aab", {"rows": {"x": "b"}}),
        ("ab!", {"rows": {"x": "a"}}),
        ("ab?", {"rows": {"x": "a"}}),
        ("ab?", {"rows": {"x": "b"}}),
        ("b?a", {"rows": {"x": "a"}}),
        ("ab", {"rows": {"x": "a"}, "queued": {"x": "b"}}),
        ("ab", {"queued": {"x": "b"}, "in_process": {"x": "a"}}),
        ("ab", {"in_process": {"x": "b"}}),
        ("a", {"parked": Counter(x=1)}),
        ("ab", {"rows": {"x": "a"}, "parked": Counter(x=1)}),
    ],
)
def test_what_is_accounted_for_balances(casts: str, holdings: dict) -> None:
    assert audited(casts, **holdings).balance


@pytest.mark.parametrize(
    ("casts", "holdings"),
    [
        ("a", {}),  # lost
        ("ab", {"rows": {"x": "a"}}),  # out of order
        ("ba?b", {"rows": {"x": "a"}}),
        ("ab!", {"rows": {"x": "b"}}),
        ("ab", {"rows": {"x": "b"}, "queued": {"x": "a"}}),
        ("a", {"rows": {"x": "c"}}),
    ],
)
def test_what_is_lost_or_out_of_order_does_not_balance(casts: str, holdings: dict) -> None:
    assert not audited(casts, **holdings).balance


def test_the_sum_has_its_parts() -> None:
    voters = [voter("abab", "one"), voter("a", "two"), voter("b", "three"), voter("b", "four"), voter("a?")]
    accounts = account(
        voters,
        held(rows={"one": "b"}, queued={"two": "a"}, in_process={"three": "b"}, parked=Counter(four=1, stranger=9)),
    )
    assert accounts == Accounts(
        accepted=7,
        rows=1,
        superseded=3,
        queued=1,
        in_process=1,
        parked=1,
        rows_of_maybes=0,
        right=3,
        wrong=0,
        unsure=0,
    )
    assert accounts.balance


def test_totals_move_by_the_last_choices() -> None:
    voters = [voter("ab"), voter("aa"), voter("ab?"), voter("a?b"), voter("a?"), voter("a!")]
    before, after = Counter(a=10, b=20), Counter(a=12, b=22)
    # b: two for sure and one perhaps; a: one for sure, and three perhaps
    assert compare(before, after, voters) == [Movement("a", 1, 4, 2), Movement("b", 2, 3, 2)]
    assert all(movement.is_right for movement in compare(before, after, voters))
    assert not all(movement.is_right for movement in compare(before, Counter(a=12, b=24), voters))


RESULTS = b'{"options": [{"id": "a", "votes": 1}, {"id": "b", "votes": 0}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(RESULTS), RESULTS)


def followed(answers: list[bytes], within_s: float) -> list[Movement]:
    """Follow the totals of a server that gives each connection the next of *answers*, an empty one by closing it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0) if answers else b"")
        await writer.drain()
        writer.close()

    async def run() -> list[Movement]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return await follow(url, Counter(a=0, b=0), [voter("a")], within_s)

    return asyncio.run(run())


def test_a_dropped_connection_does_not_end_the_audit() -> None:
    assert followed([b"", ANSWER], within_s=30) == [Movement("a", 1, 1, 1), Movement("b", 0, 0, 0)]


def test_an_api_that_stays_away_is_told_when_the_patience_is_over() -> None:
    with pytest.raises(NoAnswer):
        followed([b"", b""], within_s=0.6)
