"""Any bytes in the list are a vote or a dead letter, and the one after them is counted."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable

import psycopg
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from tests.property.conftest import Worker
from tests.property.messages import ANYTHING
from tests.property.sequential import Sequential, assert_kept, judge, opened
from tests.stack import PATIENCE
from voting.database.vote_table import VoteTable
from voting.queue.queue_view import DEAD, VOTES

PAYLOADS = 100_000
HOSTILE_EVERY = 10
VOTERS = 20_000
BOUND_S = 30.0


def test_any_bytes_are_a_vote_or_a_dead_letter(redis: Redis, database: psycopg.Connection, worker: Worker) -> None:
    @given(st.lists(ANYTHING, min_size=1, max_size=20))
    @example([b""])
    @example([b"\xef\xbb\xbf" + b'{"vote": "a", "voter_id": "x"}'])
    @example([b'{"vote": "a", "voter_id": "' + "\U0001f600".encode() * 255 + b'"}'])
    @example([b'{"vote": "a", "voter_id": "%b"}' % (b"\\ud83d\\ude00" * 256)])
    @example([b'{"vote": "a", "voter_id": "\\u0000"}', b'{"vote": "b", "voter_id": "\\udfff"}'])
    @example([b'{"vote": "a", "voter_id": "x\x7f\xc2\x80\xe2\x80\xa8 "}'])
    @example([b'{"vote": "a", "voter_id": NaN}', b"Infinity", b"-0", b"1e999"])
    def check(messages: list[bytes]) -> None:
        redis.delete(DEAD)
        redis.lpush(VOTES, *messages)
        worker.drained()
        expected = Sequential.of(messages)
        found = database.execute("SELECT id, vote FROM votes WHERE id = ANY(%s)", [list(expected.rows)]).fetchall()
        assert dict(found) == expected.rows
        letters = redis.lrange(DEAD, 0, -1)
        assert len(letters) == len(expected.dead)
        for letter, (reason, message) in zip(letters, expected.dead, strict=True):
            assert_kept(letter, reason, message)

    check()


# All kinds of EDGE CASES, with what each is parked for; every other payload is a vote.
HOSTILE: dict[str, Callable[[random.Random], bytes]] = {
    "not JSON": lambda rng: rng.choice([b"", b"vote=a", b"{", b'{"vote": "a", "voter_id": "x"', b"[" * 5000]),
    "a missing field": lambda rng: rng.choice([b"{}", b'{"vote": "a"}', b'{"voter_id": "x"}', b'{"Vote": "a"}']),
    "no object": lambda rng: rng.choice([b"null", b"[]", b"7", b'"a"', b'[{"vote": "a", "voter_id": "x"}]']),
    "a wrong type": lambda rng: json.dumps({"vote": "a", "voter_id": rng.choice([None, 7, ["x"], {}])}).encode(),
    "not UTF-8": lambda rng: b'{"vote": "a", "voter_id": "' + rng.randbytes(4) + b"\xff" + b'"}',
    "NUL": lambda rng: json.dumps({"vote": "a", "voter_id": f"{rng.randrange(99)}\0"}).encode(),
    "a lone surrogate": lambda rng: b'{"vote": "b", "voter_id": "\\ud8%02x"}' % rng.randrange(256),
    "an empty id": lambda rng: json.dumps({"vote": rng.choice("ab"), "voter_id": ""}).encode(),
    "a long id": lambda rng: json.dumps({"vote": "a", "voter_id": "x" * rng.choice([256, 300, 9000])}).encode(),
    "an unknown choice": lambda rng: json.dumps(
        {"vote": rng.choice(["c", "A", " a", "", "a" * 300]), "voter_id": "x"}
    ).encode(),
}
A_MEGABYTE = 3  # payloads of it


def payload(rng: random.Random, number: int) -> bytes:
    if number % HOSTILE_EVERY == 0:
        kinds = list(HOSTILE)
        return HOSTILE[kinds[number // HOSTILE_EVERY % len(kinds)]](rng)
    fields = {"vote": rng.choice("ab"), "voter_id": f"{rng.randrange(VOTERS):016x}"}
    if number % 3 == 1:  # the old producer's order, and keys beside them
        fields = {"voter_id": fields["voter_id"], "vote": fields["vote"], "from": "elsewhere"}
    return json.dumps(fields, separators=(",", ":") if number % 2 else None).encode()


def test_a_hundred_thousand_payloads_one_in_ten_hostile_add_up(
    redis: Redis, database: psycopg.Connection, worker: Worker
) -> None:
    rng = random.Random(100_000)
    messages = [payload(rng, number) for number in range(PAYLOADS)]
    for at in rng.sample(range(0, PAYLOADS, HOSTILE_EVERY), A_MEGABYTE):
        messages[at] = b"m" * 1_000_000
    expected = Sequential.of(messages)
    assert len(expected.dead) == PAYLOADS // HOSTILE_EVERY
    assert {reason for reason, _ in expected.dead} == {judge(make(rng))[0] for make in HOSTILE.values()}

    began = time.monotonic()
    for first in range(0, PAYLOADS, 1000):
        redis.lpush(VOTES, *messages[first : first + 1000])
    worker.drained(BOUND_S)
    took_s = time.monotonic() - began

    assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == expected.rows
    assert dict(VoteTable(database).tally().counts) == expected.tally
    letters = redis.lrange(DEAD, 0, -1)
    assert Counter(opened(letter)[0] for letter in letters) == Counter(reason for reason, _ in expected.dead)
    for letter, (reason, message) in zip(letters, expected.dead, strict=True):
        assert_kept(letter, reason, message)
    assert (worker.counted.stored, worker.counted.parked) == (PAYLOADS - len(letters), len(letters))
    assert took_s < BOUND_S * PATIENCE
