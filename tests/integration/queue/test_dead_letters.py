"""Operations on a hundred thousand dead letters: complete, crash-safe, and in steps that do not hold up Redis.

Covers dead_letters and dead_letter.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.redis_server import serving
from votectl.ops.pages import page_by_page
from votectl.ops.report import describe
from voting.database.roles import grant
from voting.database.vote_table import VoteTable
from voting.queue.dead_letter import DeadLetter
from voting.queue.dead_letters import COUNTED_AT_ONCE, PAGE_BYTES, DeadLetters
from voting.queue.queue_view import DEAD, PAGE, VOTES
from voting.vote import Vote

MANY = 100_000
FEW = 2_000


@pytest.fixture
def ops(handler, context, redis: Redis, database: psycopg.Connection) -> Callable[..., dict[str, Any]]:
    """Perform an operation."""
    VoteTable(database).install()
    grant(database)
    handle = handler("ops")
    return lambda operation, **arguments: handle({"operation": operation, **arguments}, context)


def junk(number: int) -> bytes:
    return DeadLetter("not_json", b"junk %d" % number).encode()


def refused(number: int, choice: str = "a") -> bytes:
    return DeadLetter("refused_by_database", Vote(choice, f"v{number}").encode()).encode()


def park(redis: Redis, *letters: bytes) -> list[bytes]:
    for first in range(0, len(letters), 10_000):
        redis.rpush(DEAD, *letters[first : first + 10_000])
    return list(letters)


def parked(redis: Redis) -> list[bytes]:
    return redis.lrange(DEAD, 0, -1)


def queued(redis: Redis) -> list[bytes]:
    """Oldest first."""
    return redis.lrange(VOTES, 0, -1)[::-1]


@pytest.fixture
def many(redis: Redis) -> tuple[list[bytes], list[bytes]]:
    """Letters of one reason, and behind them fewer of another."""
    in_front = park(redis, *map(junk, range(MANY)))
    behind = park(redis, *map(refused, range(FEW)))
    redis.config_resetstat()
    return in_front, behind


def calls(redis: Redis) -> Counter[str]:
    """How often each command ran since the start of the test, those of scripts included."""
    stats = redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()})


def test_letters_behind_many_others_are_dropped_in_few_searches(ops, redis, many) -> None:
    answer = ops("dead drop", reason="refused_by_database")
    assert (answer["dropped"], answer["cursor"], answer["remaining"]) == (FEW, None, 0)
    ran = calls(redis)
    assert parked(redis) == many[0]
    assert ran["lrem"] <= FEW / PAGE + 1  # once for each page, not for each letter
    assert ran["evalsha"] >= (MANY + FEW) / COUNTED_AT_ONCE  # and none has more than a page to do


def test_letters_in_front_of_others_are_dropped_in_few_searches(ops, redis, many) -> None:
    assert ops("dead drop", reason="not_json")["dropped"] == MANY
    ran = calls(redis)
    assert parked(redis) == many[1]
    assert ran["lrem"] <= MANY / PAGE + 1


@pytest.mark.parametrize("force", [False, True])
def test_letters_behind_many_others_are_all_queued_again(ops, redis, many, force) -> None:
    answer = ops("dead requeue", reason="refused_by_database", force=force)
    assert (answer["requeued"], answer["left"], answer["cursor"]) == (FEW, {}, None)
    ran = calls(redis)
    assert parked(redis) == many[0]
    assert queued(redis) == [DeadLetter.decode(letter).message for letter in many[1]]
    assert ran["lrem"] <= FEW / PAGE + 6  # the first pages are small


def test_all_are_dropped_and_status_counts_by_reason_before(ops, redis, many) -> None:
    by_reason = ops("status")["dead"]["by_reason"]
    assert by_reason == {"not_json": MANY, "refused_by_database": FEW}
    assert calls(redis)["lrange"] < 2 * (MANY + FEW) / 100  # and no letter left Redis
    letters = ops("dead list", reason="refused_by_database", offset=FEW - 2)["letters"]
    assert [letter["payload"] for letter in letters] == [Vote("a", f"v{FEW - n}").encode().decode() for n in (2, 1)]
    assert ops("dead list", reason="refused_by_database", offset=FEW)["letters"] == []
    assert ops("dead drop")["dropped"] == MANY + FEW
    assert not redis.exists(DEAD)


def test_a_mixture_keeps_the_others_and_their_order(ops, redis) -> None:
    letters = park(redis, *(junk(n) if n % 3 else refused(n) for n in range(3000)))
    assert ops("dead requeue", reason="refused_by_database", limit=400)["requeued"] == 400
    assert queued(redis) == [DeadLetter.decode(letter).message for letter in letters[:1200:3]]
    assert ops("dead drop", reason="not_json")["dropped"] == 2000
    assert parked(redis) == letters[1200::3]


def test_letters_that_are_the_same_to_the_byte_go_one_by_one(ops, redis) -> None:
    park(redis, *[refused(1)] * 500, junk(1))
    park(redis, *[redis.lindex(DEAD, 0)] * 500)
    assert ops("dead requeue", force=True, limit=700)["requeued"] == 700
    assert (redis.llen(VOTES), redis.llen(DEAD)) == (700, 301)
    assert ops("dead drop", reason="refused_by_database")["dropped"] == 301
    assert not redis.exists(DEAD)


def test_letters_of_other_programs_are_counted_and_dropped_by_their_reason(ops, redis) -> None:
    park(redis, b'{"at":1,"payload":"x","reason":"odd"}', b'{"reason": "o\\u0064d", "at": 1, "payload": "y"}')
    park(redis, b"no JSON", b'{"reason": 7}', junk(1))
    assert ops("status")["dead"]["by_reason"] == {"odd": 2, "unreadable": 2, "not_json": 1}
    shown = ops("dead list")["letters"]
    assert [letter["reason"] for letter in shown] == ["odd", "odd", "unreadable", "unreadable", "not_json"]
    assert ops("dead requeue")["left"] == {"still_no_vote": 5}
    assert ops("dead drop", reason="odd")["dropped"] == 2
    assert ops("dead drop", reason="unreadable")["dropped"] == 2
    assert redis.llen(DEAD) == 1


def test_large_letters_are_looked_at_a_few_at_a_time(ops, redis) -> None:
    large = DeadLetter("not_json", b"\x01" * 65_536).encode()
    for _ in range(100):
        redis.rpush(DEAD, large)
    redis.config_resetstat()
    assert ops("status")["dead"]["by_reason"] == {"not_json": 100}
    assert len(ops("dead list", limit=100)["letters"]) == 100
    assert ops("dead drop", reason="not_json")["dropped"] == 100
    assert calls(redis)["evalsha"] > 2 * 100 / (16 + PAGE_BYTES / len(large))


# ---------------------------------------------------------------- Page by page


def test_an_operation_goes_on_where_its_last_answer_stopped(ops, redis) -> None:
    letters = park(redis, *(junk(n) if n % 2 else refused(n) for n in range(2000)))
    said: list[str] = []

    class Function:
        def perform(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
            return ops(operation, **arguments)

    function: Any = Function()
    done = page_by_page(function, "dead requeue", {"reason": "refused_by_database", "limit": 900}, said.append, 0.0)
    assert (done["requeued"], done["left"], done["cursor"]) == (900, {}, None)
    assert queued(redis) == [DeadLetter.decode(letter).message for letter in letters[:1800:2]]
    assert len(said) > 3
    assert all(line.endswith("requeued") and "of 900 letters" in line for line in said)
    said.clear()
    assert page_by_page(function, "dead drop", {"reason": "not_json"}, said.append, 0.0)["dropped"] == 1000
    assert said[-1].startswith("9")
    assert parked(redis) == letters[1800::2]


@pytest.mark.parametrize("cursor", ["", "7", "-1.2", "1.2.3", "٣.٤", 7])
def test_a_cursor_of_no_answer_is_refused(ops, redis, cursor) -> None:
    park(redis, junk(1))
    assert ops("dead drop", cursor=cursor)["error"]["code"] == "invalid_argument"
    assert redis.llen(DEAD) == 1


def test_what_was_requeued_before_too_many_waited_is_told(ops, redis) -> None:
    redis.lpush(VOTES, *(b"%d" % i for i in range(19_900)))
    park(redis, *map(refused, range(1000)))
    answer = ops("dead requeue")
    assert answer["error"]["code"] == "too_many_queued"
    assert 0 < answer["requeued"] < 1000
    assert answer["requeued"] == redis.llen(VOTES) - 19_900 == 1000 - redis.llen(DEAD)
    assert f"{answer['requeued']} letters were requeued until then" in describe("dead requeue", answer)
    redis.delete(VOTES)
    rest = ops("dead requeue", cursor=answer["cursor"])
    assert rest["requeued"] == 1000 - answer["requeued"]
    assert not redis.exists(DEAD)


def test_what_was_dropped_before_redis_went_away_is_told(handler, context, monkeypatch) -> None:
    with serving("valkey") as url, Redis.from_url(url) as redis:
        park(redis, *map(junk, range(50_000)))
        monkeypatch.setenv("REDIS_URL", url)
        answers: list[dict[str, Any]] = []
        ops = handler("ops")
        dropping = threading.Thread(target=lambda: answers.append(ops({"operation": "dead drop"}, context)))
        dropping.start()
        while redis.llen(DEAD) > 45_000:
            pass
        redis.shutdown(nosave=True)
        dropping.join()
    assert answers[0]["error"]["code"] == "redis_unavailable"
    assert 5_000 <= answers[0]["dropped"] < 50_000
    assert answers[0]["cursor"]


def test_no_letter_is_lost_where_votes_is_no_list(ops, redis) -> None:
    letters = park(redis, *map(refused, range(3)))
    redis.set(VOTES, "precious")
    for force in (True, False):
        assert ops("dead requeue", force=force)["error"]["code"] == "not_a_list"
    assert parked(redis) == letters


# ---------------------------------------------------------------- At the same time as others


def test_letters_that_are_parked_meanstay(ops, redis) -> None:
    park(redis, *map(junk, range(20_000)))
    over = threading.Event()
    new: list[bytes] = []

    def claim() -> None:
        while not over.is_set():
            new.append(junk(10**6 + len(new)))
            redis.rpush(DEAD, new[-1])

    claims = threading.Thread(target=claim)
    claims.start()
    answer = ops("dead drop", reason="not_json")
    over.set()
    claims.join()
    assert answer["dropped"] >= 20_000
    left = parked(redis)
    assert len(left) == 20_000 + len(new) - answer["dropped"]
    assert left == new[len(new) - len(left) :]


def test_two_operators_at_once_lose_nothing_and_double_nothing(ops, redis, handler, context) -> None:
    letters = park(redis, *(junk(n) if n % 3 else refused(n) for n in range(30_000)))
    dropped: list[int] = []
    other = handler("ops")
    dropping = threading.Thread(
        target=lambda: dropped.append(other({"operation": "dead drop", "reason": "not_json"}, context)["dropped"])
    )
    dropping.start()
    requeued = 0
    while requeued < 10_000:  # what the other one has moved under our hands stays for the next time
        answer = ops("dead requeue", reason="refused_by_database", force=True)
        requeued += answer["requeued"]
        assert answer["requeued"] or answer["left"], answer
    dropping.join()
    assert dropped == [20_000]
    assert not redis.exists(DEAD)
    assert Counter(queued(redis)) == Counter(DeadLetter.decode(letter).message for letter in letters[::3])


def test_two_operators_may_drop_the_same(ops, redis, handler, context) -> None:
    park(redis, *(junk(n) if n % 2 else refused(n) for n in range(20_000)))
    dropped: list[int] = []
    other = handler("ops")
    dropping = threading.Thread(
        target=lambda: dropped.append(other({"operation": "dead drop", "reason": "not_json"}, context)["dropped"])
    )
    dropping.start()
    dropped.append(ops("dead drop", reason="not_json")["dropped"])
    dropping.join()
    assert sum(dropped) == 10_000
    assert DeadLetters(redis).count() == {"refused_by_database": 10_000}


def test_a_newer_vote_is_found_though_its_voters_id_is_written_with_escapes(redis: Redis) -> None:
    redis.lpush(VOTES, Vote("b", "zoë").encode())
    park(redis, DeadLetter("refused_by_database", Vote("a", "zoë").encode()).encode())
    letters = DeadLetters(redis)
    found = letters.page(0, 1)
    assert letters.requeue(0, 1, [(found[0], "zoë")], unless_queued=True).moved == 0
