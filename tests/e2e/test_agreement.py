"""A voter's way through the whole system: every screen shows the same counts, within a second."""

import time
from collections.abc import Callable
from statistics import median

import httpx
import psycopg
from redis import Redis

from tests.e2e.subscriber import Subscriber
from tests.e2e.voter import cast, votes
from tests.stack import Stack, wait_for

ROUNDS = 5


def test_form_json_subscriber_and_results_agree_within_a_second(
    fresh: Stack, http: httpx.Client, subscribe: Callable[[], Subscriber], say: Callable[[str], None]
) -> None:
    subscriber = subscribe()
    took_s = []
    for number in range(ROUNDS):
        http.cookies.clear()
        form = http.post("/", data={"vote": "a"})
        assert (form.status_code, form.headers["location"]) == (303, "/")
        json = httpx.post(f"{fresh.http}/api/votes", json={"vote": "b"}, trust_env=False)
        assert (json.status_code, json.json()) == (202, {"vote": "b", "status": "queued"})
        began = time.monotonic()
        frame = subscriber.total(2 * number + 2)
        wait_for(lambda frame=frame: fresh.results()["version"] >= frame["version"], "the results of the frame")
        took_s.append(time.monotonic() - began)
        results = fresh.results()
        assert votes(results) == votes(frame) == {"a": number + 1, "b": number + 1}
        assert results["options"] == frame["options"]
    say(f"vote to every screen: median {median(took_s) * 1000:.0f} ms, slowest {max(took_s) * 1000:.0f} ms")
    assert median(took_s) < 1.0  # the median, so that one hiccup of the machine fails nothing


def test_page_shows_the_choice_of_a_form_to_the_voter_alone(http: httpx.Client, fresh: Stack) -> None:
    page = http.post("/", data={"vote": "b"}, follow_redirects=True)
    assert page.status_code == 200
    assert "Your vote for Dogs was received." in page.text
    assert "Your vote for Dogs was received." in http.get("/").text
    assert "Your vote for Dogs was received." not in httpx.get(f"{fresh.http}/", trust_env=False).text


def test_voter_who_changes_their_mind_is_counted_once(http: httpx.Client, fresh: Stack) -> None:
    for choice in "abab":
        assert http.post("/", data={"vote": choice}).status_code == 303
    wait_for(lambda: votes(fresh.results()) == {"a": 0, "b": 1}, "one vote for b")


def test_subscriber_that_comes_later_sees_the_counts_at_once(
    fresh: Stack, http: httpx.Client, subscribe: Callable[[], Subscriber]
) -> None:
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote")
    assert votes(subscribe().frames[0]) == {"a": 1, "b": 0}


def test_waiting_votes_are_the_list_of_the_contract(
    http: httpx.Client, redis: Redis, database: psycopg.Connection
) -> None:
    with database.transaction():  # the worker waits for this lock, and the votes behind its batch stay in the list
        database.execute("LOCK TABLE votes IN ACCESS EXCLUSIVE MODE")
        first = cast(http, "a")
        wait_for(lambda: redis.llen("{votes}:processing") == 1, "the worker to claim the first vote")
        second, third = cast(http, "b"), cast(http, "a")
        assert redis.type("votes") == "list"
        assert redis.lrange("votes", 0, -1) == [
            f'{{"vote": "a", "voter_id": "{third}"}}',
            f'{{"vote": "b", "voter_id": "{second}"}}',
        ]
        assert redis.lrange("{votes}:processing", 0, -1) == [f'{{"vote": "a", "voter_id": "{first}"}}']
    wait_for(lambda: rows(database) == {first: "a", second: "b", third: "a"}, "all three in the table")


def test_table_is_that_of_the_contract(database: psycopg.Connection) -> None:
    columns = database.execute(
        "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_name = 'votes' ORDER BY ordinal_position"
    ).fetchall()
    assert columns == [
        ("id", "character varying", 255, "NO", None),
        ("vote", "character varying", 255, "NO", None),
    ]
    indexes = dict(
        database.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'votes'").fetchall()  # type: ignore[arg-type] # pairs
    )
    assert indexes == {
        "votes_id_key": "CREATE UNIQUE INDEX votes_id_key ON public.votes USING btree (id)",
        "idx_votes_id": "CREATE UNIQUE INDEX idx_votes_id ON public.votes USING btree (id)",
        "idx_votes_vote": "CREATE INDEX idx_votes_vote ON public.votes USING btree (vote)",
    }
    constraints = database.execute(
        "SELECT contype FROM pg_constraint WHERE conrelid = 'votes'::regclass AND contype <> 'n'"
    ).fetchall()
    assert constraints == [("u",)]


def rows(database: psycopg.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT id, vote FROM votes").fetchall())
