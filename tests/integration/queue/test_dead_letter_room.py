"""The list of dead letters has a limit: junk makes way for junk, and no vote that may be queued again is dropped."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from tests.integration.queue.test_dead_letters import calls, junk, park, parked, refused
from tests.property.conftest import Worker
from votectl.ops.report import describe
from voting.clients import Clients
from voting.database.roles import grant
from voting.database.vote_table import VoteTable
from voting.ops.status import read_status
from voting.queue.dead_letter import REFUSED, SHORT_PAYLOAD, DeadLetter
from voting.queue.dead_letter_room import SHARE, DeadLetterRoom
from voting.queue.dead_letters import COUNTED_AT_ONCE, DeadLetters
from voting.queue.queue_view import DEAD, DEAD_ACCOUNT, VOTES
from voting.settings import Settings
from voting.vote import Vote

NO_LIMIT = 10**9


@pytest.fixture
def room(redis: Redis) -> Callable[[int, int], DeadLetterRoom]:
    return lambda most, most_bytes: DeadLetterRoom(redis, most, most_bytes)


@pytest.fixture
def worker(settings: Settings, redis: Redis, database: psycopg.Connection) -> Iterator[Worker]:
    limited = Settings({**settings.env, "DEAD_LETTERS": "1000", "DEAD_LETTER_BYTES": "200000", "BATCH_VOTES": "400"})
    worker = Worker(limited, redis)
    worker.start()
    yield worker
    worker.stop()


def problems(clients: Clients) -> list[str]:
    found = read_status(clients, counted=False)["problems"]
    assert isinstance(found, list)
    return [problem for problem in found if "dead" in problem]


def test_a_flood_of_junk_stays_within_number_and_size_and_is_accounted_for(worker: Worker, redis, clients) -> None:
    sizes = []
    for number in range(10):
        redis.lpush(VOTES, *(b"junk %d %d " % (number, i) + b"x" * 300 for i in range(500)))
        worker.drained()
        sizes.append((redis.llen(DEAD), sum(map(len, parked(redis)))))
    worker.stop()
    assert max(count for count, _ in sizes) <= 1000 + 400
    assert max(size for _, size in sizes) <= 200_000 + 400 * 450
    account = DeadLetters(redis).account()
    assert account.dropped == worker.counted.parked - redis.llen(DEAD) > 0
    assert DeadLetter.decode(redis.lindex(DEAD, -1)).message.startswith(b"junk 9 499 ")
    (problem,) = problems(clients)
    assert f"{account.dropped} were dropped" in problem


def test_payloads_of_the_oldest_go_before_any_letter_goes(room, redis) -> None:
    large = [DeadLetter("not_json", b"%d " % n + bytes([n % 250]) * 5000).encode() for n in range(100)]
    park(redis, *large, refused(1))
    kept = room(NO_LIMIT, 400_000)
    kept.keep()
    letters = parked(redis)
    assert len(letters) == 101
    assert sum(map(len, letters)) <= 400_000
    short = [letter for letter in letters if letter not in large][:-1]
    assert letters == [*short, *large[len(short) :], refused_as_it_was(letters)]
    for letter, whole in zip(short, large, strict=False):
        before, after = json.loads(whole), json.loads(letter)
        message = DeadLetter.decode(whole).message
        assert (after["reason"], after["at"], after["length"]) == ("not_json", before["at"], len(message))
        assert after["sha256"] == hashlib.sha256(message).hexdigest()
        read = DeadLetter.decode(letter)
        assert read.is_cut
        assert message.startswith(read.message)
        assert len(read.message) <= SHORT_PAYLOAD
    account = DeadLetters(redis).account()
    assert (account.shortened, account.dropped) == (len(short), None)
    assert kept.is_full()
    assert room(NO_LIMIT, NO_LIMIT).is_full()  # the next run says so, too, until an operator has dropped letters
    redis.delete(DEAD_ACCOUNT)  # as `dead drop` does
    assert not kept.is_full()


def refused_as_it_was(letters: list[bytes]) -> bytes:
    assert DeadLetter.decode(letters[-1]).reason == REFUSED
    return letters[-1]


def test_a_letter_that_was_cut_before_keeps_the_length_and_the_digest_of_the_whole(room, redis) -> None:
    message = b"y" * 100_000
    park(redis, *(DeadLetter("not_json", message).encode() for _ in range(3)))
    room(NO_LIMIT, 100_000).keep()
    first = json.loads(redis.lindex(DEAD, 0))
    assert (first["length"], first["sha256"]) == (100_000, hashlib.sha256(message).hexdigest())


def test_refused_votes_stay_whatever_junk_comes(room, redis, clients) -> None:
    votes = park(redis, *map(refused, range(300)))
    for number in range(20):
        park(redis, *map(junk, range(100 * number, 100 * number + 100)))
        votes += park(redis, refused(1000 + number))
        room(600, NO_LIMIT).keep()
    letters = parked(redis)
    assert [letter for letter in letters if DeadLetter.decode(letter).reason == REFUSED] == votes
    assert SHARE * 600 <= len(letters) <= 600
    newest = [junk(number) for number in range(2000)][-(len(letters) - len(votes)) :]
    kept = [DeadLetter.decode(letter).message for letter in letters if letter not in votes]
    assert kept == [DeadLetter.decode(letter).message for letter in newest]
    assert DeadLetters(redis).account().dropped == 2000 - len(kept)


def test_refused_votes_for_which_there_is_no_room_stay_and_that_is_said(room, redis, clients, caplog) -> None:
    votes = park(redis, *map(refused, range(300)), junk(1), *map(refused, range(300, 400)))
    full = room(100, 10_000)
    full.keep()
    del votes[300]
    assert parked(redis) == votes
    redis.hdel(DEAD_ACCOUNT, "since")  # of the junk, which has made way
    assert full.is_full()
    assert room(100, 10_000).is_full()  # the next run says so, too, as long as it is so
    assert room(NO_LIMIT, 10_000).is_full()
    assert not room(NO_LIMIT, NO_LIMIT).is_full()  # the limits have been raised
    assert "no room" in caplog.text
    assert any("no room" in problem and "100 and 10000 bytes" in problem for problem in problems(clients))
    redis.config_resetstat()
    park(redis, junk(2))
    full.keep()
    assert calls(redis)["lrange"] < 10  # not all of them again
    park(redis, *map(junk, range(20)))
    full.keep()
    assert parked(redis) == votes


def test_dropping_letters_ends_the_complaint(room, redis, clients, handler, context) -> None:
    park(redis, *map(junk, range(30)))
    room(20, NO_LIMIT).keep()
    assert "12 were dropped" in problems(clients)[0]
    assert handler("ops")({"operation": "dead drop", "reason": "not_json"}, context)["dropped"] == 18
    assert problems(clients) == []
    assert not redis.exists(DEAD_ACCOUNT)
    assert not room(20, NO_LIMIT).is_full()


def test_a_hundred_thousand_letters_make_room_in_steps_of_a_page(room, redis) -> None:
    park(redis, *map(refused, range(1000)), *map(junk, range(100_000)))
    redis.config_resetstat()
    room(50_000, NO_LIMIT).keep()
    assert redis.llen(DEAD) == int(SHARE * 50_000)
    ran = calls(redis)
    assert ran["lrem"] <= 56_000 / COUNTED_AT_ONCE + 1  # a search for each page, not for each letter
    assert ran["evalsha"] >= (101_000 + 56_000) / COUNTED_AT_ONCE


def test_it_counts_what_is_new_only(room, redis) -> None:
    park(redis, *map(junk, range(20_000)))
    kept = room(50_000, NO_LIMIT)
    kept.keep()
    redis.config_resetstat()
    for number in range(10):
        park(redis, junk(number))
        kept.keep()
    assert calls(redis)["lrange"] <= 3 * 10


def test_what_operators_removed_makes_room(room, redis) -> None:
    kept = room(100, NO_LIMIT)
    for _ in range(5):
        park(redis, *map(junk, range(100)))
        kept.keep()
        assert redis.llen(DEAD) == 100
        redis.ltrim(DEAD, 90, -1)
        park(redis, *map(junk, range(90)))
        kept.keep()
        assert redis.llen(DEAD) == 100
        redis.delete(DEAD)
    assert DeadLetters(redis).account().dropped is None


def test_room_is_made_while_memory_is_full(room, redis) -> None:
    park(redis, *(DeadLetter("not_json", b"x" * 2000).encode() for _ in range(300)))
    redis.config_set("maxmemory", "500000")
    try:
        room(100, 50_000).keep()
    finally:
        redis.config_set("maxmemory", "0")
    assert redis.llen(DEAD) <= 100


def test_a_user_who_may_make_no_room_counts_all_the_same(settings, redis, redis_url, database, caplog) -> None:
    redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">limited", "~*", "+@all", "-lset")
    url = urlsplit(redis_url)._replace(netloc=f"limited:limited@{urlsplit(redis_url).netloc.rpartition('@')[2]}")
    worker = Worker(Settings({**settings.env, "REDIS_URL": url.geturl(), "DEAD_LETTERS": "10"}), redis)
    worker.start()
    try:
        for _ in range(3):
            redis.lpush(VOTES, *(b"junk %d" % number for number in range(30)), Vote("a", "x").encode())
            worker.drained()
    finally:
        worker.stop()
        redis.execute_command("ACL", "DELUSER", "limited")
    assert worker.counted.stored == 3
    assert redis.llen(DEAD) == 90
    assert "no room could be made" in caplog.text


# ---------------------------------------------------------------- What others left in the list

STRANGE = [
    b"",
    b"no JSON",
    b"\xff\xfe{",
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b"7",
    b"null",
    b'"text"',
    b'["reason"]',
    b"{}",
    b'{"reason": "odd"}',
    b'{"reason": "odd", "at": "noon", "payload": 7}',
    b'{"reason": "odd", "at": 1e400, "payload": "x"}',
    b'{"reason": "odd", "at": -1, "payload": "x"}',
    b'{"reason": "odd", "at": ' + b"9" * 4000 + b', "payload": "x"}',
    b'{"reason": ["x"], "at": 1, "payload": "x"}',
    b'{"reason": "", "at": 1, "payload": "x"}',
    b'{"reason": "\\u001b[2J", "at": 1, "payload": "x"}',
    b'{"reason": "\x1b[2J", "at": 1, "payload": "x"}',
    b'{"reason": "\xff", "at": 1, "payload": "x"}',
    b'{"reason": "' + b"r" * 5000 + b'", "at": 1, "payload": "x"}',
    b'{"reason": "odd", "at": 1, "payload": "\\ud800"}',
    b'{"reason": "odd", "at": 1, "payload_base64": "%"}',
    b'{"reason": "odd", "at": 1, "payload_base64": ["x"]}',
    b'{"reason": "odd", "at": 1, "payload": "x", "sqlstate": 7, "error": {"a": 1}, "length": "long"}',
    b'{"reason": "odd", "at": 1, "payload": "x", "reason": "even"}',
    b"x" * 3_000_000,
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda strange: ascii(strange[:40]))
def test_what_is_no_letter_hides_none_and_stops_no_operation(
    strange: bytes, redis, database, handler, context, clients, room
) -> None:
    VoteTable(database).install()
    grant(database)
    handle = handler("ops")

    def ops(operation: str, **arguments: object) -> dict:
        answer = handle({"operation": operation, **arguments}, context)
        json.dumps(answer, ensure_ascii=False).encode()  # as Lambda's runtime client does
        assert answer["ok"], answer
        assert describe(operation, answer)
        return answer

    park(redis, junk(1), strange, refused(1), junk(2))
    listed = [letter["reason"] for letter in ops("dead list")["letters"]]
    assert (listed[0], listed[2:]) == ("not_json", [REFUSED, "not_json"])
    (why,) = set(listed) - {"not_json", REFUSED}
    assert why in {"odd", "unreadable"}
    assert ops("status")["dead"]["by_reason"] == Counter(listed)
    assert len(ops("dead list", reason=why)["letters"]) == 1
    room(3, NO_LIMIT).keep()
    assert redis.llen(DEAD) == 2
    park(redis, strange)
    room(NO_LIMIT, 300).keep()
    assert ops("dead requeue")["requeued"] == 1
    redis.rpush(DEAD, strange)
    assert ops("dead drop", reason=why)["dropped"] >= 1
    assert why not in ops("status")["dead"]["by_reason"]


def test_a_page_of_what_becomes_long_in_json_fits_into_an_answer(handler, context, redis, database) -> None:
    park(redis, *(DeadLetter("not_json", b"\x01" * 2000).encode() for _ in range(1000)))
    ops = handler("ops")
    answer = ops({"operation": "dead list", "limit": 1000}, context)
    assert len(json.dumps(answer)) < 5_000_000
    first = len(answer["letters"])
    assert 100 < first < 1000
    rest = ops({"operation": "dead list", "limit": 1000, "offset": first}, context)
    assert first + len(rest["letters"]) == 1000 or len(rest["letters"]) >= first - 1


@pytest.mark.parametrize("operation", ["dead list", "dead requeue", "dead drop"])
def test_a_reason_that_no_letter_has_is_told_with_those_that_there_are(handler, context, redis, operation) -> None:
    park(redis, junk(1), b'{"reason": "odd", "at": 1, "payload": "x"}')
    ops = handler("ops")
    refused = ops({"operation": operation, "reason": "not_jsno"}, context)
    assert refused["error"]["code"] == "unknown_reason"
    for known in ("not_json", "odd", REFUSED, "unreadable", "id_too_long"):
        assert known in refused["error"]["message"]
    if operation != "dead requeue":
        assert ops({"operation": operation, "reason": "empty_id"}, context)["ok"]
        assert ops({"operation": operation, "reason": "odd"}, context)["ok"]
    assert redis.llen(DEAD) >= 1
