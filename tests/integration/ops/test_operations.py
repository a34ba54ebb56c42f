"""The function ops as it is invoked, on real stores.

Covers operations, arguments, errors, status, handover, drop, requeue, dead_letter_operations and indexes.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.conftest import event
from voting.clients import Clients
from voting.database.roles import grant
from voting.database.vote_table import VoteTable
from voting.observability import metrics
from voting.ops.list_watch import ListActivity, watch
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import CLAIMED, DEAD, HANDED_BACK, PROCESSING, PROGRESS, TROUBLE, VOTES
from voting.queue.trouble import Trouble
from voting.queue.vote_queue import HandedBack, VoteQueue
from voting.results.snapshot import TROUBLE as RESULTS_TROUBLE
from voting.settings import Settings
from voting.vote import Vote
from voting.worker import journal
from voting.worker.drain import STOP_BEFORE_END_S, Drain, RunFailed

DEADLINE_S = 20.0


@pytest.fixture
def ops(handler, context, redis: Redis, database: psycopg.Connection) -> Callable[..., dict[str, Any]]:
    """Perform an operation; its answer must be JSON."""
    handle = handler("ops")

    def ops(operation: str, **arguments: Any) -> dict[str, Any]:
        return json.loads(json.dumps(handle({"operation": operation, **arguments}, context)))

    return ops


@pytest.fixture
def table(table: VoteTable, database: psycopg.Connection) -> VoteTable:
    grant(database)
    return table


@pytest.fixture
def worker(redis: Redis, database: psycopg.Connection, settings: Settings) -> Iterator[Callable[..., threading.Thread]]:
    """Run the worker beside the test until its run ends or the test does."""
    runs: list[threading.Thread] = []
    over = threading.Event()

    def run(**env: str) -> threading.Thread:
        def work() -> None:
            clients = Clients(Settings({**settings.env, **env}), redis_retries=0)
            Drain(clients, lambda: 0.0 if over.is_set() else STOP_BEFORE_END_S + 1, lambda: None).run()
            clients.close()

        runs.append(threading.Thread(target=work))
        runs[-1].start()
        return runs[-1]

    yield run
    over.set()
    for thread in runs:
        thread.join()


@pytest.fixture
def queue(clients: Clients) -> VoteQueue:
    return VoteQueue(clients.redis())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def park(redis: Redis, *letters: DeadLetter) -> None:
    redis.rpush(DEAD, *(letter.encode() for letter in letters))


def parked(redis: Redis) -> list[bytes]:
    return [DeadLetter.decode(letter).message for letter in redis.lrange(DEAD, 0, -1)]


def vote(voter_id: str, choice: str = "a") -> DeadLetter:
    return DeadLetter("refused_by_database", Vote(choice, voter_id).encode())


@pytest.mark.usefixtures("table")
def test_a_refused_vote_is_listed_with_what_the_database_said(ops, redis: Redis) -> None:
    message = Vote("a", "x").encode()
    redis.rpush(DEAD, DeadLetter("refused_by_database", message, sqlstate="23514", error="CheckViolation").encode())
    redis.rpush(DEAD, DeadLetter("refused_by_database", message, error="TypeError").encode())
    first, second = ops("dead list", reason="refused_by_database")["letters"]
    assert (first["sqlstate"], first["error"]) == ("23514", "CheckViolation")
    assert ("sqlstate" in second, second["error"]) == (False, "TypeError")
    assert ops("dead requeue", reason="refused_by_database")["requeued"] == 2


# ---------------------------------------------------------------- Asking


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "unknown_operation"),
        ({"operation": None}, "unknown_operation"),
        ({"operation": ["status"]}, "unknown_operation"),
        ({"operation": "destroy"}, "unknown_operation"),
        ({"operation": "status", "colour": "red"}, "invalid_argument"),
        ({"operation": "status", "count": "yes"}, "invalid_argument"),
        ({"operation": "dead list", "limit": 0}, "invalid_argument"),
        ({"operation": "dead list", "limit": True}, "invalid_argument"),
        ({"operation": "dead list", "reason": 7}, "invalid_argument"),
    ],
)
def test_what_cannot_be_done_is_a_typed_error(handler, context, asked, code) -> None:
    answer = handler("ops")(asked, context)
    assert (answer["ok"], answer["error"]["code"]) == (False, code)
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("setting", "operation", "code"),
    [
        ("REDIS_URL", "handback", "redis_unavailable"),
        ("DATABASE_URL", "tally verify", "postgres_unavailable"),
    ],
)
def test_a_store_that_is_away_is_a_typed_error(ops, monkeypatch, setting, operation, code) -> None:
    scheme = {"REDIS_URL": "redis", "DATABASE_URL": "postgresql"}[setting]
    monkeypatch.setenv(setting, f"{scheme}://127.0.0.1:1/0")
    assert ops(operation)["error"]["code"] == code


def test_no_table_is_a_typed_error(ops) -> None:
    assert ops("tally verify")["error"]["code"] == "not_installed"
    assert ops("indexes")["error"]["code"] == "not_installed"


@pytest.mark.parametrize(
    "name", ["status", "dead-list", "dead-requeue", "dead-drop", "tally-verify", "install", "indexes"]
)
def test_the_events_for_every_operation_are_understood(handler, context, redis, table, name) -> None:
    assert handler("ops")(event(f"ops-{name}"), context)["ok"] is True


# ---------------------------------------------------------------- Status


def test_status_tells_what_is_where(ops, redis, queue, table, database) -> None:
    redis.lpush(VOTES, *(Vote("a", f"v{i}").encode() for i in range(5)))
    queue.claim(3, most=10, most_bytes=1000)
    redis.lpush(VOTES, Vote("a", "w").encode())
    park(redis, DeadLetter("not_json", b"x"), DeadLetter("not_json", b"y"), DeadLetter("not_utf8", b"\xff"))
    database.execute("INSERT INTO votes VALUES ('x', 'a')")
    table.take_fence(6)
    redis.incrby(CLAIMED, -90_000)
    status = ops("status", count=True)
    assert status["queue"] | {"batch_age_s": 0} == {
        "type": "list",
        "waiting": 1,
        "in_process": 5,
        "batch_age_s": 0,
        "handed_back_s": None,
        "fence": 3,
    }
    assert (status["dead"]["total"], status["dead"]["by_reason"]) == (3, {"not_json": 2, "not_utf8": 1})
    assert (status["tally"]["counts"], status["tally"]["rows"], status["tally"]["fence"]) == ({"a": 1}, {"a": 1}, 7)
    assert (status["snapshot"], status["subscribers"]) == (None, 0)
    assert len(status["problems"]) == 2
    assert "in process for 9" in status["problems"][0]


def test_status_names_the_last_error_and_since_when_nothing_is_counted(ops, redis, clients, table) -> None:
    assert ops("status")["counting"] == {"state": "ok", "behind_s": 0.0, "trouble": None}
    redis.lpush(VOTES, Vote("a", "x").encode())
    redis.set(PROGRESS, (redis.time()[0] - 60) * 1000)
    assert any("is the worker running?" in problem for problem in ops("status")["problems"])
    Trouble(clients.redis(), TROUBLE, "nothing is counted").met("it is read-only (25006)")
    status = ops("status")
    assert status["counting"]["state"] == "stalled"
    assert status["counting"]["behind_s"] >= 60
    assert "25006" in status["counting"]["trouble"]["error"]
    (problem,) = (problem for problem in status["problems"] if problem.startswith("votes wait"))
    assert f"UTC: {status['counting']['trouble']['error']}" in problem
    Trouble(clients.redis(), RESULTS_TROUBLE, "not announced").met("AWS refused Invoke")
    assert any("not been announced since" in problem for problem in ops("status")["problems"])


def test_a_takeover_that_changes_nothing_does_not_hide_a_stall(ops, redis, table) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode())
    redis.set(PROGRESS, (redis.time()[0] - 60) * 1000)
    assert ops("takeover")["changed"] is False
    assert ops("status")["counting"]["state"] == "stalled"


def test_a_takeover_begins_without_a_delay(ops, redis, table) -> None:
    redis.set(PROGRESS, 1)
    redis.set(HANDED_BACK, 1)
    redis.lpush(VOTES, Vote("a", "x").encode())
    assert ops("takeover", force=True)["changed"] is True
    assert ops("status")["counting"]["state"] == "ok"


def test_a_run_that_finds_the_list_handed_back_ends_the_trouble_of_the_one_before(ops, redis, clients, table) -> None:
    Trouble(clients.redis(), TROUBLE, "nothing is counted").met("it is read-only (25006)")
    redis.set(HANDED_BACK, 1)
    Drain(clients, lambda: STOP_BEFORE_END_S + 1, lambda: None).run()
    assert ops("status")["counting"] == {"state": "handed_back", "behind_s": 0.0, "trouble": None}


def test_a_list_that_is_handed_back_and_that_no_worker_drains_is_a_problem(ops, redis, table) -> None:
    redis.set(HANDED_BACK, 1)
    assert ops("status")["problems"] == []
    redis.lpush(VOTES, Vote("a", "x").encode())
    assert any("no worker takes any" in problem for problem in ops("status")["problems"])


def test_a_missing_tally_is_no_problem_while_another_worker_drains(ops, redis, database) -> None:
    assert any("has no tally" in problem for problem in ops("status")["problems"])
    redis.set(HANDED_BACK, 1)
    assert ops("status")["problems"] == []


def test_a_hand_back_that_is_refused_says_what_has_been_done(ops, redis, monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/x")
    refused = ops("handback")["error"]
    assert refused["code"] == "postgres_unavailable"
    assert "run `handback` again" in refused["message"]
    assert redis.exists(HANDED_BACK)


def test_status_without_one_store_tells_of_the_other(ops, redis, monkeypatch) -> None:
    redis.lpush(VOTES, b"1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/x")
    status = ops("status")
    assert status["ok"] is True
    assert status["queue"]["waiting"] == 1
    assert any("Postgres does not respond" in problem for problem in status["problems"])


def test_status_tells_of_a_wrong_type(ops, redis, table) -> None:
    redis.set(VOTES, "precious")
    assert any("is a string" in problem for problem in ops("status")["problems"])


# ---------------------------------------------------------------- Dead letters


def test_dead_letters_are_listed_by_page_and_reason(ops, redis) -> None:
    for number in range(450):
        park(redis, DeadLetter("not_json" if number % 2 else "not_utf8", b"%d" % number))
    park(redis, DeadLetter("not_utf8", b"\xff" * 3), DeadLetter("not_json", b"j" * 100_000))
    letters = ops("dead list", reason="not_json", limit=2, offset=224)["letters"]
    assert [letter["payload"][:3] for letter in letters] == ["449", "jjj"]
    assert [letter["cut"] for letter in letters] == [False, True]
    assert len(letters[1]["payload"]) == 2000
    assert ops("dead list", limit=1, offset=450)["letters"][0]["payload_base64"] == "////"


def test_letters_that_are_votes_now_and_of_silent_voters_are_queued_again_in_order(
    ops, redis, queue, table, database
) -> None:
    park(redis, DeadLetter("not_json", b"junk"), vote("twice", "a"), vote("once"), vote("twice", "b"))
    park(redis, vote("voted"), vote("waits"), vote("in process"))
    database.execute("INSERT INTO votes VALUES ('voted', 'b')")
    redis.lpush(VOTES, Vote("b", "in process").encode())
    queue.claim(1, most=1, most_bytes=100)
    redis.lpush(VOTES, b'{"voter_id":"waits","vote":"b"}', b"junk", b"[" * 5000)
    answer = ops("dead requeue")
    assert answer["requeued"] == 3
    assert answer["left"] == {"still_no_vote": 1, "voted_since": 1, "queued_since": 2}
    oldest_first = redis.lrange(VOTES, 0, -1)[::-1][:3]
    assert oldest_first == [Vote("a", "twice").encode(), Vote("a", "once").encode(), Vote("b", "twice").encode()]
    assert parked(redis) == [b"junk", *(vote(id_).message for id_ in ("voted", "waits", "in process"))]
    assert ops("dead requeue")["requeued"] == 0


@pytest.mark.parametrize(
    ("options", "requeued", "left"), [("", 0, {"still_no_vote": 2}), ("Tea|Milk|Water", 1, {"still_no_vote": 1})]
)
def test_a_vote_for_an_option_that_has_come_is_queued_again(
    ops, redis, table, database, monkeypatch, options: str, requeued: int, left: dict[str, int]
) -> None:
    monkeypatch.setenv("OPTIONS", options)
    park(redis, *(DeadLetter("unknown_choice", Vote(choice, f"for {choice}").encode()) for choice in "cd"))
    answer = ops("dead requeue", reason="unknown_choice")
    assert (answer["requeued"], answer["left"]) == (requeued, left)
    assert redis.lrange(VOTES, 0, -1) == [Vote("c", "for c").encode()][:requeued]


def test_force_queues_all_but_cut_letters_again(ops, redis, table, database) -> None:
    database.execute("INSERT INTO votes VALUES ('voted', 'b')")
    redis.lpush(VOTES, b"newer")
    park(redis, vote("voted"), DeadLetter("not_json", b"junk"), DeadLetter("not_json", b"x" * 100_000))
    answer = ops("dead requeue", force=True)
    assert (answer["requeued"], answer["left"]) == (2, {"cut": 1})
    assert redis.lrange(VOTES, 0, -1) == [b"newer", b"junk", vote("voted").message]


def test_force_keeps_the_order_over_many_letters(ops, redis, table) -> None:
    park(redis, *(vote(f"v{number}") for number in range(1234)))
    assert ops("dead requeue", force=True, limit=1200)["requeued"] == 1200
    assert redis.lrange(VOTES, 0, -1)[::-1] == [vote(f"v{number}").message for number in range(1200)]
    assert len(parked(redis)) == 34


def test_a_long_queue_is_not_looked_through(ops, redis, table) -> None:
    redis.lpush(VOTES, *(b"%d" % i for i in range(20_001)))
    park(redis, vote("x"))
    assert ops("dead requeue")["error"]["code"] == "too_many_queued"
    assert len(parked(redis)) == 1


def test_requeueing_waits_for_a_batch_that_is_being_committed(ops, redis, table, database, clients) -> None:
    """Else it would miss a row that is about to be there, and the older choice would win."""
    token = table.take_fence()
    park(redis, vote("x", "a"))
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(ops("dead requeue")))
    with clients.postgres().transaction():
        VoteTable(clients.postgres()).record([Vote("b", "x")], token)
        asking.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        until(lambda: database.execute(waiting).fetchone() == (1,))
    asking.join()
    assert (answers[0]["requeued"], answers[0]["left"]) == (0, {"voted_since": 1})


def test_dropped_are_those_of_the_reason_and_no_others(ops, redis) -> None:
    for number in range(700):
        park(redis, DeadLetter("not_json" if number % 7 else "not_utf8", b"%d" % number))
    assert ops("dead drop", reason="not_json")["dropped"] == 600
    assert redis.llen(DEAD) == 100
    assert ops("dead drop")["dropped"] == 100
    assert redis.exists(DEAD) == 0


# ---------------------------------------------------------------- The tally


def test_a_right_tally_agrees(ops, table, database) -> None:
    database.execute("INSERT INTO votes VALUES ('x', 'a'), ('y', 'b')")
    answer = ops("tally verify")
    assert (answer["agrees"], answer["repaired"], answer["problems"]) == (True, False, [])
    assert answer["kept"] == answer["counted"] == {"a": 1, "b": 1}


def test_a_wrong_tally_is_found_and_repaired_once(ops, table, database) -> None:
    database.execute("INSERT INTO votes VALUES ('x', 'a')")
    database.execute("UPDATE vote_tally SET votes = 40")
    before = table.tally().version
    found = ops("tally verify")
    assert (found["agrees"], found["repaired"], len(found["problems"])) == (False, False, 1)
    assert table.tally().counts == {"a": 40}
    repaired = ops("tally verify", repair=True)
    assert (repaired["repaired"], repaired["problems"]) == (True, [])
    assert table.tally().counts == {"a": 1}
    assert table.tally().version > before
    assert ops("tally verify", repair=True)["repaired"] is False


def test_disabled_triggers_are_told(ops, table, database) -> None:
    database.execute("ALTER TABLE votes DISABLE TRIGGER vote_tally_insert")
    database.execute("DROP TRIGGER vote_tally_truncate ON votes")
    (complaint,) = ops("tally verify")["problems"]
    assert "vote_tally_insert, vote_tally_truncate" in complaint


def test_status_names_triggers_that_do_not_follow(ops, table, database) -> None:
    assert not any("triggers" in problem for problem in ops("status")["problems"])
    database.execute("ALTER TABLE votes DISABLE TRIGGER vote_tally_insert")
    database.execute("ALTER TABLE votes ENABLE REPLICA TRIGGER vote_tally_delete")
    (complaint,) = (problem for problem in ops("status")["problems"] if "triggers" in problem)
    assert complaint.endswith("vote_tally_delete, vote_tally_insert")


def test_verifying_beside_writers_always_agrees(ops, table, database_url) -> None:
    stop = threading.Event()
    failures: list[Exception] = []

    def write() -> None:
        try:
            with psycopg.connect(database_url, autocommit=True) as other:
                number = 0
                while not stop.is_set():
                    number += 1
                    other.execute("INSERT INTO votes VALUES (%s, 'a')", (f"v{number}",))
                    if number % 20 == 0:
                        other.execute("TRUNCATE votes")
        except psycopg.Error as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    answers = [ops("tally verify") for _ in range(25)]
    stop.set()
    writer.join()
    assert failures == []
    assert all(answer["agrees"] for answer in answers)


# ---------------------------------------------------------------- The handover


def test_handing_back_stops_the_worker_and_returns_its_batch_in_order(ops, redis, database, worker) -> None:
    """A batch that the database will not take: the worker holds it in process all the while."""
    VoteTable(database).install()
    database.execute("ALTER TABLE votes ADD CONSTRAINT never CHECK (false) NOT VALID")
    messages = [Vote("ab"[i % 2], f"v{i % 50}").encode() for i in range(400)]
    redis.lpush(VOTES, *messages)
    run = worker(BATCH_VOTES="100")
    until(lambda: redis.llen(PROCESSING))
    redis.lpush(VOTES, b"later")
    answer = ops("handback")
    assert answer["changed"] is True
    run.join(DEADLINE_S)
    assert not run.is_alive()
    assert redis.exists(PROCESSING, CLAIMED) == 0
    left = redis.lrange(VOTES, 0, -1)[::-1]
    assert left[-1] == b"later"
    assert [*parked(redis), *left[:-1]] == messages
    assert answer["waiting"] == len(left)


def test_a_worker_that_starts_while_it_is_handed_back_ends_well_and_takes_nothing(ops, redis, worker) -> None:
    redis.lpush(VOTES, b"1", b"2")
    assert ops("handback")["returned"] == 0
    worker().join(DEADLINE_S)
    assert redis.lrange(VOTES, 0, -1) == [b"2", b"1"]
    assert ops("status")["queue"]["handed_back_s"] > 0


def test_handing_back_may_be_repeated(ops, redis) -> None:
    assert ops("handback")["changed"] is True
    redis.lpush(PROCESSING, b"stray")
    assert any("handed back" in problem for problem in ops("status")["problems"])
    again = ops("handback")
    assert (again["changed"], again["returned"], again["waiting"]) == (False, 1, 1)


def test_a_zombies_batch_cannot_be_committed_after_the_hand_back(ops, redis, table) -> None:
    token = table.take_fence()
    ops("handback")
    assert table.fence() > token


def test_a_run_that_has_just_committed_acknowledges_before_anything_is_returned(ops, redis, queue, table) -> None:
    """Else the other worker gets again what is stored, and may apply it after a newer choice."""
    token = table.take_fence()
    redis.lpush(VOTES, Vote("a", "x").encode())
    queue.claim(token, most=10, most_bytes=100)
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(ops("handback")))
    table.record([Vote("a", "x")], token)
    asking.start()
    until(lambda: table.fence() > token)
    with pytest.raises(HandedBack):
        queue.claim(token, most=10, most_bytes=100, acknowledge=1)
    asking.join()
    assert (answers[0]["returned"], answers[0]["waiting"]) == (0, 0)


def test_handing_back_waits_for_a_batch_that_is_being_committed(ops, redis, table, database, clients) -> None:
    token = table.take_fence()
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(ops("handback")))
    with clients.postgres().transaction():
        VoteTable(clients.postgres()).record([Vote("b", "x")], token)
        asking.start()
        until(lambda: database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
        assert redis.exists(HANDED_BACK)
        assert answers == []
    asking.join()
    assert answers[0]["ok"] is True


def test_taking_over_lets_the_worker_drain_again(ops, redis, database, worker) -> None:
    redis.lpush(VOTES, Vote("a", "x").encode())
    ops("handback")
    assert ops("takeover")["changed"] is True
    worker()
    until(lambda: redis.llen(VOTES) + redis.llen(PROCESSING) == 0)
    assert database.execute("SELECT id FROM votes").fetchall() == [("x",)]
    assert ops("takeover")["changed"] is False


def test_taking_over_is_refused_while_another_drains(ops, redis) -> None:
    ops("handback")
    redis.lpush(VOTES, *(b"%d" % i for i in range(5000)))
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set() and redis.rpop(VOTES):
            stop.wait(0.005)

    old_worker = threading.Thread(target=drain)
    old_worker.start()
    assert ops("takeover")["error"]["code"] == "still_drained"
    assert redis.exists(HANDED_BACK)
    assert ops("takeover", force=True)["changed"] is True
    stop.set()
    old_worker.join()


def test_a_wrong_type_is_not_taken_over(ops, redis) -> None:
    redis.set(VOTES, "precious")
    assert ops("takeover")["error"]["code"] == "not_a_list"


# ---------------------------------------------------------------- Indexes


def test_missing_and_broken_indexes_are_built_without_locking_writers_out(ops, redis, database) -> None:
    database.execute("CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)")
    database.execute("INSERT INTO votes SELECT 'v' || i, 'a' FROM generate_series(1, 1000) AS i")
    database.execute("CREATE INDEX idx_votes_vote ON votes (vote)")
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_votes_vote'::regclass")
    assert ops("indexes")["indexes"] == {"idx_votes_id": "built", "idx_votes_vote": "repaired"}
    assert ops("indexes")["indexes"] == {"idx_votes_id": "was there", "idx_votes_vote": "was there"}
    assert ops("indexes progress")["progress"] == []


def test_an_index_is_built_while_somebody_writes_and_its_progress_can_be_seen(
    ops, redis, database, database_url
) -> None:
    database.execute("CREATE TABLE votes (id VARCHAR(255) NOT NULL, vote VARCHAR(255) NOT NULL)")
    answers: list[dict[str, Any]] = []
    building = threading.Thread(target=lambda: answers.append(ops("indexes")))
    with psycopg.connect(database_url) as writer:
        writer.execute("INSERT INTO votes VALUES ('x', 'a')")
        building.start()  # it waits for this transaction, which is older
        until(lambda: ops("indexes progress")["progress"])
        assert ops("indexes")["error"]["code"] == "busy"
        database.execute("INSERT INTO votes VALUES ('y', 'a')")
    building.join()
    assert answers[0]["indexes"] == {"idx_votes_id": "built", "idx_votes_vote": "built"}


def test_double_ids_are_told(ops, redis, database) -> None:
    database.execute("CREATE TABLE votes (id VARCHAR(255) NOT NULL, vote VARCHAR(255) NOT NULL)")
    database.execute("INSERT INTO votes VALUES ('x', 'a'), ('x', 'b')")
    assert ops("indexes")["error"]["code"] == "postgres_refused"


# ---------------------------------------------------------------- What others do with the list


def watched(queue: VoteQueue, *steps: Callable[[], object]) -> ListActivity:
    """Watch the list while the steps are taken, over and over, at a pace that the watch can follow."""
    stop = threading.Event()

    def act() -> None:
        while not stop.is_set():
            for step in steps:
                step()
            stop.wait(0.01)

    actor = threading.Thread(target=act)
    actor.start()
    activity = watch(queue, 1.0)
    stop.set()
    actor.join()
    return activity


@pytest.fixture
def number() -> Iterator[Callable[[], bytes]]:
    numbers = iter(range(10**9))
    return lambda: b"%d" % next(numbers)


def test_pushes_to_the_head_are_seen(redis, queue, number) -> None:
    redis.lpush(VOTES, number())
    activity = watched(queue, lambda: redis.lpush(VOTES, number()))
    assert activity.head_pushes > 10
    assert (activity.tail_pushes, activity.is_drained) == (0, False)


def test_pushes_to_the_tail_are_seen(redis, queue, number) -> None:
    redis.lpush(VOTES, number())
    activity = watched(queue, lambda: redis.rpush(VOTES, number()))
    assert activity.tail_pushes > 10
    assert (activity.head_pushes, activity.is_drained) == (0, False)


def test_a_drainer_is_seen(redis, queue, number) -> None:
    redis.lpush(VOTES, *(number() for _ in range(10_000)))
    activity = watched(queue, lambda: redis.lpush(VOTES, number()), lambda: redis.rpop(VOTES))
    assert activity.head_pushes > 10
    assert activity.tail_pops > 10
    assert (activity.tail_pushes, activity.head_pops) == (0, 0)


def test_a_quiet_list_tells_nothing(redis, queue) -> None:
    redis.lpush(VOTES, b"1")
    activity = watch(queue, 0.1)
    assert (activity.head_pushes, activity.tail_pushes, activity.is_drained) == (0, 0, False)
    assert activity.filled > 0


# ---------------------------------------------------------------- What the worker tells of a stuck batch


def test_how_things_stand_is_published_while_the_database_is_away(
    redis: Redis, queue: VoteQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(journal, "FLUSH_METRICS_EVERY_S", 0.0)
    monkeypatch.setattr(metrics, "namespace", "Voting")
    redis.lpush(VOTES, b"1", b"2")
    queue.claim(1, most=10, most_bytes=100)
    redis.set(PROGRESS, (redis.time()[0] - 300) * 1000)
    redis.rpush(DEAD, b"{}", b"{}", b"{}")  # parked by an earlier run: the alarm stays on until somebody has looked
    clients = Clients(Settings({**settings.env, "DATABASE_URL": "postgresql://127.0.0.1:1/x"}), redis_retries=0)
    times = iter([STOP_BEFORE_END_S + 1] * 2)
    with pytest.raises(RunFailed):
        Drain(clients, lambda: next(times, 0.0), lambda: None).run()
    clients.close()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "NotCountedFor" in line]
    assert lines
    assert lines[0]["NotCountedFor"][0] >= 300
    assert lines[0]["QueueLength"] == [2.0]
    assert lines[0]["DeadLetters"] == [3.0]
