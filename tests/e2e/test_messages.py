"""Messages that others put into the list by hand: old producers, and junk."""

import json

import httpx
import psycopg
import pytest
from redis import Redis

from tests.stack import Stack, wait_for

JUNK = {
    b"not json at all": "not_json",
    b"": "not_json",
    b'{"vote": "a", "voter_id": "cut': "not_json",
    b"\xff\xfe": "not_utf8",
    b'["a", "abc"]': "not_an_object",
    b'{"vote": "a"}': "missing_field",
    b'{"voter_id": "abc"}': "missing_field",
    b'{"vote": "a", "voter_id": 7}': "wrong_type",
    b'{"vote": "c", "voter_id": "abc"}': "unknown_choice",
    b'{"vote": "A", "voter_id": "abc"}': "unknown_choice",
    b'{"vote": "a", "voter_id": ""}': "empty_id",
    json.dumps({"vote": "a", "voter_id": "x" * 256}).encode(): "id_too_long",
    b'{"vote": "a", "voter_id": "nul\\u0000"}': "invalid_id",
    b'{"vote": "a", "voter_id": "half\\ud800"}': "invalid_id",
}


@pytest.mark.parametrize(
    "message",
    [
        '{"voter_id": "5f3a9c1b2d4e", "vote": "b"}',
        '{"voter_id":"5f3a9c1b2d4e","vote":"b"}',
        ' {\n  "vote" : "b" ,\t"voter_id" : "5f3a9c1b2d4e"\r\n}\n',
        '{"vote": "b", "voter_id": "5f3a9c1b2d4e", "at": 1700000000}',
        '{"vote": "\\u0062", "voter_id": "5f3a9c1b2d4e"}',
    ],
)
def test_message_in_another_formatting_is_counted(message: str, redis: Redis, database: psycopg.Connection) -> None:
    redis.lpush("votes", message)
    wait_for(lambda: rows(database) == {"5f3a9c1b2d4e": "b"}, "the vote in the table")


def test_junk_is_parked_with_its_reason_and_the_votes_behind_it_are_counted(
    redis: Redis, database: psycopg.Connection
) -> None:
    for number, message in enumerate(JUNK):
        redis.lpush("votes", message, vote("a", f"behind-{number}"))
    wait_for(lambda: len(rows(database)) == len(JUNK), "the votes behind the junk")
    # A batch is acknowledged, and its dead letters are written, with the claim of the next one.
    wait_for(lambda: redis.llen("{votes}:dead") == len(JUNK), "the dead letters")
    letters = [json.loads(letter) for letter in redis.lrange("{votes}:dead", 0, -1)]
    assert [letter["reason"] for letter in letters] == list(JUNK.values())
    assert [letter.get("payload") for letter in letters[:3]] == [
        "not json at all",
        "",
        '{"vote": "a", "voter_id": "cut',
    ]
    assert set(rows(database).values()) == {"a"}


def test_megabyte_of_junk_is_parked_cut_short(redis: Redis, database: psycopg.Connection) -> None:
    redis.lpush("votes", "x" * 1_000_000, vote("b", "behind"))
    wait_for(lambda: rows(database) == {"behind": "b"}, "the vote behind it")
    wait_for(lambda: redis.llen("{votes}:dead") == 1, "the dead letter")
    (letter,) = (json.loads(letter) for letter in redis.lrange("{votes}:dead", 0, -1))
    assert (letter["reason"], letter["length"], len(letter["payload"])) == ("not_json", 1_000_000, 64 * 1024)


def test_last_of_one_voters_votes_in_one_batch_wins(redis: Redis, database: psycopg.Connection) -> None:
    redis.lpush("votes", *(vote(choice, "abc") for choice in "abaab"), vote("a", "last"))
    wait_for(lambda: rows(database) == {"abc": "b", "last": "a"}, "the last choices")


def test_list_of_another_type_is_left_alone_until_somebody_clears_it(
    fresh: Stack, http: httpx.Client, redis: Redis, database: psycopg.Connection
) -> None:
    before = len(fresh.log)
    redis.set("votes", "not a list")
    try:
        wait_for(lambda: "is not a list" in fresh.log[before:], "the worker to say so")
        assert http.post("/api/votes", json={"vote": "a"}).status_code == 503
        assert redis.get("votes") == "not a list"
    finally:
        redis.delete("votes")
    redis.lpush("votes", vote("a", "after"))
    wait_for(lambda: rows(database) == {"after": "a"}, "the vote that came after it was cleared")


def vote(choice: str, voter_id: str) -> str:
    return json.dumps({"vote": choice, "voter_id": voter_id})


def rows(database: psycopg.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT id, vote FROM votes").fetchall())
