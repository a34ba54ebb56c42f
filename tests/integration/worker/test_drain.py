"""Runs of the worker on real stores.

Covers drain, beginning, fencing, fenced_table, failures, intake, journal and batch.
"""

import json
import random
import re
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from redis import Redis

from voting.clients import Clients
from voting.database.rows import WORTH_COPYING
from voting.database.vote_table import VoteTable
from voting.question import Question
from voting.queue.queue_view import DEAD, PROCESSING, PROGRESS, TROUBLE, VOTES
from voting.queue.trouble import read_trouble
from voting.queue.vote_queue import VoteQueue
from voting.results.results import Results
from voting.settings import InvalidSetting, Settings
from voting.vote import CHOICES, Vote
from voting.worker.drain import STOP_BEFORE_END_S, Drain, RunFailed
from voting.worker.pacing import GATHER_S

WAIT_S = 0.02  # for a vote: a run ends so much later than it is told to


def ends_when(condition: Callable[[], bool], within_s: float = 20.0) -> Callable[[], float]:
    """A clock whose time is up once *condition* holds."""
    deadline = time.monotonic() + within_s
    return lambda: 0.0 if condition() or time.monotonic() > deadline else STOP_BEFORE_END_S + 1


@pytest.fixture
def drain(redis: Redis, database: psycopg.Connection, settings: Settings):
    """Run a drain until a condition holds."""
    opened: list[Clients] = []

    def run(until: Callable[[], bool], **env: str):
        clients = Clients(Settings({**settings.env, **env}), redis_retries=0)
        opened.append(clients)
        return Drain(clients, ends_when(until), lambda: None, wait_s=WAIT_S).run()

    yield run
    for clients in opened:
        clients.close()


def empty(redis: Redis) -> Callable[[], bool]:
    return lambda: redis.llen(VOTES) + redis.llen(PROCESSING) == 0


def rows(database: psycopg.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT id, vote FROM votes").fetchall())


def test_a_voters_last_choice_wins_across_and_within_batches(drain, redis: Redis, database) -> None:
    rng = random.Random(7)
    last: dict[str, str] = {}
    for _ in range(3000):
        vote = Vote(rng.choice("ab"), f"voter{rng.randrange(500)}")
        last[vote.voter_id] = vote.choice
        redis.lpush(VOTES, vote.encode())
    counted = drain(empty(redis), BATCH_VOTES="170")
    assert rows(database) == last
    assert counted.stored == 3000
    assert dict(VoteTable(database).tally().counts) == {c: list(last.values()).count(c) for c in "ab"}


def test_a_backlog_of_full_batches_is_claimed_once(drain, redis: Redis, database) -> None:
    redis.lpush(VOTES, *(Vote("a", f"voter{number}").encode() for number in range(1000)))
    counted = drain(empty(redis), BATCH_VOTES="100")
    assert (counted.stored, counted.batches) == (1000, 10)
    assert VoteTable(database).tally().counts == {"a": 1000}


def test_votes_that_trickle_in_are_stored_together(redis: Redis, database, settings: Settings) -> None:
    VoteTable(database).install()
    over = threading.Event()
    clients = Clients(settings, redis_retries=0)
    began = time.monotonic()
    drain = Drain(clients, lambda: 0.0 if over.is_set() and empty(redis)() else STOP_BEFORE_END_S + 1, lambda: None)
    run = threading.Thread(target=drain.run)
    run.start()
    for number in range(200):
        redis.lpush(VOTES, Vote("a", f"voter{number}").encode())
        over.wait(0.005)  # a rate of votes, and no condition
    over.set()
    run.join()
    clients.close()
    assert len(rows(database)) == 200
    assert drain.counted.batches <= (time.monotonic() - began) / GATHER_S + 2


def test_a_vote_after_a_lull_is_stored_at_once(redis: Redis, database, settings: Settings) -> None:
    VoteTable(database).install()
    stored = threading.Event()
    clients = Clients(settings, redis_retries=0)
    far_off = time.monotonic() + 60
    drain = Drain(clients, lambda: 0.0 if stored.is_set() else STOP_BEFORE_END_S + 1, stored.set, lambda: far_off)
    run = threading.Thread(target=drain.run)
    run.start()
    redis.lpush(VOTES, Vote("a", "x").encode())
    assert stored.wait(10)
    run.join()
    clients.close()
    assert rows(database) == {"x": "a"}


def test_votes_that_come_after_redis_lost_its_data_are_counted(redis: Redis, database, settings: Settings) -> None:
    old, new = ([Vote("a", f"{age}{number}") for number in range(30)] for age in ("old", "new"))
    redis.lpush(VOTES, *(vote.encode() for vote in old))

    def lose_once() -> None:
        # After the first commit: the second batch has been read ahead by then, and is nowhere else.
        if redis.lrange(PROCESSING, -1, -1) == [old[0].encode()]:
            redis.flushall()
            redis.lpush(VOTES, *(vote.encode() for vote in new))

    clients = Clients(Settings({**settings.env, "BATCH_VOTES": "10"}), redis_retries=0)
    Drain(clients, ends_when(empty(redis)), lose_once).run()
    clients.close()
    assert set(rows(database)) >= {vote.voter_id for vote in new}


def test_junk_is_parked_with_its_reason_and_the_votes_behind_it_are_counted(drain, redis: Redis, database) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode(), b"junk", b"\xff", b'{"vote": "c", "voter_id": "y"}', b"j" * 1_000_000)
    redis.lpush(VOTES, b'{"voter_id":"z","vote":"b"}')
    counted = drain(empty(redis))
    assert rows(database) == {"x": "a", "z": "b"}
    letters = [json.loads(letter) for letter in redis.lrange(DEAD, 0, -1)]
    assert [letter["reason"] for letter in letters] == ["not_json", "not_utf8", "unknown_choice", "not_json"]
    assert letters[3]["length"] == 1_000_000
    assert counted.parked == 4


@pytest.mark.parametrize("count", [2, 3, 20])
def test_votes_for_options_are_counted_and_for_other_ids_parked(drain, redis: Redis, database, count: int) -> None:
    redis.lpush(VOTES, *(Vote(choice, f"for {choice}").encode() for choice in (*CHOICES, "u")))
    counted = drain(empty(redis), OPTIONS="|".join(f"Option {choice}" for choice in CHOICES[:count]))
    assert rows(database) == {f"for {choice}": choice for choice in CHOICES[:count]}
    assert VoteTable(database).tally().counts == dict.fromkeys(CHOICES[:count], 1)
    assert VoteTable(database).verify(repair=False).agrees
    assert counted.parked == 21 - count
    assert {json.loads(letter)["reason"] for letter in redis.lrange(DEAD, 0, -1)} == {"unknown_choice"}


def test_a_run_whose_options_cannot_be_read_parks_nothing(drain, redis: Redis, database) -> None:
    redis.lpush(VOTES, Vote("c", "x").encode())
    with pytest.raises(InvalidSetting, match="OPTIONS"):
        drain(empty(redis), OPTIONS="Tea|Tea")
    assert redis.llen(VOTES) == 1
    assert not redis.exists(DEAD)


def test_rows_of_other_writers_are_counted_whatever_they_hold(drain, redis: Redis, database) -> None:
    redis.lpush(VOTES, Vote("c", "x").encode())
    drain(empty(redis), OPTIONS="Tea|Milk|Water")
    database.execute("INSERT INTO votes VALUES ('y', 'z'), ('v', 'c'), ('w', 'Cats')")
    tally = VoteTable(database).tally()
    assert tally.counts == {"c": 2, "z": 1, "Cats": 1}
    assert Results.of(tally, Question.of("", ["Tea", "Milk", "Water"])).total == 2
    assert Results.of(tally, Question.of("", ["Tea", "Milk"])).total == 0


def test_a_vote_that_the_database_refuses_is_parked_alone(drain, redis: Redis, database) -> None:
    VoteTable(database).install()
    database.execute("ALTER TABLE votes ADD CONSTRAINT picky CHECK (id <> 'bad')")
    redis.lpush(VOTES, *(Vote("a", id_).encode() for id_ in ("one", "two", "bad", "three")))
    drain(empty(redis))
    assert rows(database) == {"one": "a", "two": "a", "three": "a"}
    assert [json.loads(letter)["reason"] for letter in redis.lrange(DEAD, 0, -1)] == ["refused_by_database"]


def test_what_the_log_says_of_a_failed_batch_names_no_voter(drain, redis: Redis, database, caplog) -> None:
    VoteTable(database).install()
    database.execute("""
        CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no %', NEW.id USING ERRCODE = 'query_canceled', DETAIL = NEW.id; END $$;
        CREATE TRIGGER give_up BEFORE INSERT ON votes FOR EACH ROW EXECUTE FUNCTION give_up()
    """)
    redis.lpush(VOTES, *(Vote("a", f"secret{i}").encode() for i in range(WORTH_COPYING)))
    sentence = "57014 QueryCanceled (function give_up): a function that a trigger calls raises it: fix the function"
    with pytest.raises(RunFailed, match=re.escape(sentence)):
        drain(lambda: "no batch gets through" in caplog.text)
    assert any(getattr(record, "cause", "").startswith(sentence) for record in caplog.records)
    assert not any("secret" in str(vars(record)) for record in caplog.records)


def test_a_newer_run_takes_over_and_the_older_ends_well(redis: Redis, database, settings: Settings) -> None:
    ended = []

    def older() -> None:
        clients = Clients(settings, redis_retries=0)
        ended.append(Drain(clients, ends_when(lambda: False), lambda: None).run())
        clients.close()

    run = threading.Thread(target=older)
    run.start()
    redis.lpush(VOTES, Vote("a", "x").encode())
    deadline = time.monotonic() + 10
    while redis.llen(VOTES) + redis.llen(PROCESSING) and time.monotonic() < deadline:
        pass
    clients = Clients(settings, redis_retries=0)
    Drain(clients, ends_when(lambda: not run.is_alive()), lambda: None).run()
    clients.close()
    run.join()
    assert ended[0].superseded
    assert rows(database) == {"x": "a"}


def test_a_batch_of_a_dead_run_is_taken_up_before_newer_votes(drain, redis: Redis, database) -> None:
    redis.lpush(PROCESSING, Vote("a", "x").encode(), Vote("b", "y").encode())
    redis.lpush(VOTES, Vote("b", "x").encode())
    drain(empty(redis))
    assert rows(database) == {"x": "b", "y": "b"}


def test_a_killed_connection_delays_a_batch_and_loses_none(drain, redis: Redis, database) -> None:
    killed = threading.Event()

    def kill() -> None:
        while not killed.is_set():
            done = database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voting'"
            ).fetchall()
            if done:
                killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    redis.lpush(VOTES, *(Vote("ab"[i % 2], f"v{i}").encode() for i in range(2000)))
    drain(lambda: killed.is_set() and empty(redis)(), BATCH_VOTES="50")
    killer.join()
    assert len(rows(database)) == 2000


def test_a_table_dropped_by_hand_is_made_anew(drain, redis: Redis, database) -> None:
    VoteTable(database).install()
    dropped = threading.Event()

    def ready() -> bool:
        if not dropped.is_set():
            database.execute("DROP TABLE votes CASCADE")
            redis.lpush(VOTES, Vote("a", "x").encode())
            dropped.set()
        return empty(redis)()

    drain(ready)
    assert rows(database) == {"x": "a"}
    assert VoteTable(database).tally().counts == {"a": 1}


@pytest.mark.parametrize(
    "statement",
    ["TRUNCATE votes, vote_tally, vote_tally_version, vote_worker_fence", "DELETE FROM vote_worker_fence"],
)
def test_tables_emptied_by_hand_are_filled_in_the_same_run(drain, redis: Redis, database, statement: str) -> None:
    VoteTable(database).install()
    emptied = threading.Event()

    def ready() -> bool:
        if not emptied.is_set() and VoteTable(database).fence() > 0:
            database.execute(statement)
            redis.lpush(VOTES, Vote("a", "x").encode())
            emptied.set()
        return emptied.is_set() and empty(redis)()

    drain(ready)
    assert rows(database) == {"x": "a"}
    assert VoteTable(database).tally().counts == {"a": 1}


def test_an_older_tally_that_another_login_owns_is_no_reason_not_to_count(
    redis: Redis, settings: Settings, database, database_url: str, caplog
) -> None:
    VoteTable(database).install()
    database.execute("ALTER TABLE vote_worker_fence DROP COLUMN compared_shape")
    database.execute("DROP ROLE IF EXISTS clone; CREATE ROLE clone LOGIN PASSWORD 'clone'")
    try:
        database.execute(
            "GRANT ALL ON ALL TABLES IN SCHEMA public, voting TO clone; GRANT ALL ON SCHEMA public TO clone; "
            "GRANT USAGE ON SCHEMA voting TO clone"
        )
        url = psycopg.conninfo.conninfo_to_dict(database_url)
        theirs = f"postgresql://clone:clone@{url['host']}:{url['port']}/{url['dbname']}"
        clients = Clients(Settings({**settings.env, "DATABASE_URL": theirs}), redis_retries=0)
        redis.lpush(VOTES, Vote("a", "x").encode())
        Drain(clients, ends_when(empty(redis)), lambda: None).run()
        clients.close()
    finally:
        database.execute("DROP OWNED BY clone; DROP ROLE clone")
    assert VoteTable(database).tally().counts == {"a": 1}
    assert "the tally stays as an older version created it" in caplog.text


def test_a_run_that_never_reached_the_database_fails_and_leaves_the_votes(redis: Redis, settings: Settings) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode())
    clients = Clients(Settings({**settings.env, "DATABASE_URL": "postgresql://127.0.0.1:1/x"}), redis_retries=0)
    with pytest.raises(RunFailed) as caught:
        Drain(clients, ends_when(lambda: False, within_s=1.0), lambda: None).run()
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert redis.llen(VOTES) == 1
    clients.close()


def test_what_keeps_a_run_from_counting_is_kept_until_a_batch_gets_through(redis, database, settings, drain) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode())
    clients = Clients(Settings({**settings.env, "DATABASE_URL": "postgresql://127.0.0.1:1/x"}), redis_retries=0)
    with pytest.raises(RunFailed):
        Drain(clients, ends_when(lambda: read_trouble(redis, TROUBLE) is not None), lambda: None).run()
    clients.close()
    redis.hincrby(TROUBLE, "since", -1000)
    assert "refused" in read_trouble(redis, TROUBLE).error
    drain(empty(redis))
    assert read_trouble(redis, TROUBLE) is None


def test_progress_is_made_with_every_batch_and_while_nothing_waits(redis, database, clients) -> None:
    queue = VoteQueue(clients.redis())
    made: list[int] = []

    def progress() -> int:
        made.append(int(redis.get(PROGRESS) or 0))
        redis.set(PROGRESS, 1)
        return made[-1]

    redis.lpush(VOTES, *(Vote("a", f"v{i}").encode() for i in range(2)))
    redis.set(PROGRESS, 1)
    assert queue.claim(1, most=1, most_bytes=1000)
    assert progress() == 1  # handed out, and not stored
    assert queue.backlog().behind_s > 1000
    queue.claim(1, most=1, most_bytes=1000, acknowledge=1)
    assert progress() > 1
    queue.claim(1, most=1, most_bytes=1000, acknowledge=1)
    progress()
    assert queue.claim(1, most=1, most_bytes=1000) == []
    assert progress() > 1
    assert queue.backlog().behind_s == 0.0


def test_a_wrong_type_under_votes_fails_the_run_and_is_left_alone(drain, redis: Redis) -> None:
    redis.set(VOTES, "precious")
    started = time.monotonic()
    with pytest.raises(RunFailed):
        drain(lambda: time.monotonic() - started > 1.0)
    assert redis.get(VOTES) == b"precious"


def test_a_run_stops_before_its_time_is_up_and_leaves_the_rest(drain, redis: Redis, database) -> None:
    redis.lpush(VOTES, *(Vote("a", f"v{i}").encode() for i in range(1000)))
    drain(lambda: redis.llen(PROCESSING) < 900 and redis.exists(PROCESSING) == 1, BATCH_VOTES="50")
    stored = len(rows(database))
    assert 0 < stored < 1000
    drain(empty(redis))
    assert len(rows(database)) == 1000
