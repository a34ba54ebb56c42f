"""What strangers send takes time that grows no faster than its length, and nothing of it is kept."""

import encodings
import gc
import time
import tracemalloc
from collections.abc import Callable
from itertools import count, islice
from typing import Any

import pytest

from tests.conftest import Handler, event
from tests.security.conftest import Function
from voting.broadcast.websocket_api import answer
from voting.clients import Clients

Change = Callable[[int], dict[str, Any]]
JSON = {"content-type": "application/json"}


def header(name: str, text: Callable[[int], str], **others: str | None) -> Change:
    return lambda size: {"headers": {**JSON, **others, name: text(size)}}


# By what is large in it: the changes of a request, for a size in characters.
LARGE: dict[str, Change] = {
    "parameters": header("content-type", lambda size: "application/json" + ";" * size),
    "parameters with quotes": header("content-type", lambda size: "application/json" + ';x="' * (size // 4)),
    "an open quote": header("content-type", lambda size: 'application/json; x="' + ";" * size),
    "escapes in quotes": header("content-type", lambda size: 'application/json; x="' + "\\a" * (size // 2)),
    "continuations": header(
        "content-type", lambda size: "application/json" + "".join(f";charset*{i}=a" for i in range(size // 13))
    ),
    "boundary": header("content-type", lambda size: "multipart/form-data; boundary=" + "=" * size),
    "charset": header("content-type", lambda size: "application/json; charset=" + "u" * size),
    "spaces": header("content-type", lambda size: "application/json;" + " \t" * (size // 2) + "!"),
    "accept": header("accept", lambda size: " " * size + "text/html;q=" + "0," * size),
    "origin": header("origin", lambda size: "https://" + "a." * (size // 2), **{"sec-fetch-site": None}),
    "origin with brackets": header("origin", lambda size: "https://" + "[" * size, **{"sec-fetch-site": None}),
    "condition": header("if-none-match", lambda size: 'W/"x",' * (size // 6)),
    "scheme": header("x-forwarded-proto", lambda size: "https," * (size // 6)),
    "a cookie": lambda size: {"cookies": ["voter_id=" + "a" * size]},
    "cookies": lambda size: {"cookies": ["voter_id=a"] * (size // 10) + ["voter_sig=b"] * (size // 10)},
    "signs in a cookie": lambda size: {"cookies": ["=" * size, ";" * size]},
    "path": lambda size: {"path": "/" * size + "a"},
    "segments": lambda size: {"path": "/a" * (size // 2)},
    "form": lambda size: {
        "headers": {"content-type": "application/x-www-form-urlencoded"},
        "body": b"vote=" + b"%2" * (size // 2),
    },
    "semicolons": lambda size: {"headers": {"content-type": "application/x-www-form-urlencoded"}, "body": b";" * size},
    "digits": lambda size: {"headers": JSON, "body": b'{"vote": ' + b"9" * size + b"}"},
    "keys": lambda size: {"headers": JSON, "body": b"{" + b'"a":1,' * (size // 6) + b"}"},
}
SMALL, BIG = 1_000, 8_000
KEPT = 40  # bytes for each: a failed look-up of a codec took 172. The tests themselves keep a line of the log a second
SLACK = 2  # times as long as by proportion; by the square it would be eight times


def least(ask: Callable[[dict[str, Any]], object], what: str, size: int) -> float:
    """The least of some times, in seconds: what other processes take is not ours. No request comes twice."""
    taken = []
    for more in range(9):
        change = LARGE[what](size + 12 * more)
        began = time.perf_counter()
        ask(change)
        taken.append(time.perf_counter() - began)
    return min(taken)


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize(
    ("of", "name"), [("vote", "post-json"), ("vote", "get-vote-page"), ("result", "get-results")], ids=str
)
def test_eight_times_as_much_takes_no_more_than_eight_times_as_long(
    function: Callable[[str], Function], redis, database, of: str, name: str, what: str
) -> None:
    asked = function(of)
    asked(name)
    small, big = (least(lambda change: asked(name, **change), what, size) for size in (SMALL, BIG))
    assert big < small * BIG / SMALL * SLACK


@pytest.mark.parametrize(
    "change",
    [
        lambda i: {"headers": {"content-type": f"application/json; charset=stranger-{i}"}},
        lambda i: {"headers": {"content-type": f"application/x-stranger-{i}"}},
        lambda i: {"headers": {"content-type": f"application/json; x{i}=y; charset=utf-8"}},
        lambda i: {"headers": {"origin": f"https://{i}.example", "sec-fetch-site": None}},
        lambda i: {"headers": {f"x-stranger-{i}": f"{i}", "accept": f"text/html;q=0.{i}"}},
        lambda i: {"headers": {"if-none-match": f'"{i}"', "x-forwarded-proto": f"s{i}"}},
        lambda i: {"cookies": [f"stranger{i}={i}", f"voter_id={i:032x}", f"voter_sig={i}"]},
        lambda i: {"path": f"/stranger/{i}"},
        lambda i: {"method": f"STRANGE{i}"},
        lambda i: {"body": b'{"vote": "stranger %d", "key %d": %d}' % (i, i, i)},
    ],
    ids=["charset", "type", "parameter", "origin", "header", "condition", "cookie", "path", "method", "key"],
)
def test_nothing_is_kept_of_what_a_stranger_sends(function: Callable[[str], Function], change: Change) -> None:
    vote = function("vote")
    before = len(encodings._cache)  # type: ignore[attr-defined]
    grown = _growth(lambda i: vote("post-json", **change(i)))
    assert len(encodings._cache) == before  # type: ignore[attr-defined]
    assert grown < KEPT


def test_nothing_is_kept_of_a_strangers_frames(ws_connect: Handler, context, clients: Clients) -> None:
    def send(i: int) -> None:
        (frame,) = answer(f'{{"action": "stranger {i}", "key {i}": {i}}}', f"c{i}=", clients)
        assert b"error" in frame
        handshake = event("websocket-connect")
        handshake["headers"] |= {"Origin": f"https://{i}.example", f"X-{i}": "y"}
        assert ws_connect(handshake, context) == {"statusCode": 403}

    assert _growth(send) < KEPT


def _growth(ask: Callable[[int], object]) -> float:
    """Bytes kept for each call, once what holds a fixed number of things is full: the least of three rounds.

    What is made once, whenever that is, shows in one of them, and what is kept of each call shows in all.
    """
    numbers, times, kept = count(10**6), 300, []
    tracemalloc.start()
    try:
        for _ in range(4):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for number in islice(numbers, times):
                ask(number)
            gc.collect()
            kept.append((tracemalloc.get_traced_memory()[0] - before) / times)
    finally:
        tracemalloc.stop()
    return min(kept[1:])
