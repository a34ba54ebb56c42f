"""The container voting app and ours on the same stores: what may run together, and what a switch keeps."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.migration.electorate import Electorate
from tests.migration.old_design import OldProducer, OldWorker, spelled
from tests.stack import wait_for
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.ops.handover import StillDrained, hand_back, take_over
from voting.queue.queue_view import VOTES
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings
from voting.vote import Vote

Wait = Callable[[], None]
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "migrate.md"


def rows(database: psycopg.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT id, vote FROM votes").fetchall())


def assert_tally_follows(database: psycopg.Connection) -> None:
    assert dict(VoteTable(database).tally().counts) == Counter(rows(database).values())


def assert_nothing_is_lost(electorate: Electorate, database: psycopg.Connection) -> None:
    """Everybody who voted has a row."""
    assert rows(database).keys() == electorate.last.keys()
    assert_tally_follows(database)


def assert_right(electorate: Electorate, database: psycopg.Connection, voters: set[str]) -> None:
    assert voters
    found = rows(database)
    assert {voter: found[voter] for voter in voters} == {voter: electorate.last[voter] for voter in voters}


def removal() -> str:
    """What docs/guides/migrate.md says removes what we added."""
    (script,) = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return script


def ours(database: psycopg.Connection) -> set[str]:
    """What is in the database beside the table of the old design and its indexes."""
    query = """
        WITH schemas AS (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'voting'))
        SELECT relname FROM pg_class WHERE relnamespace IN (SELECT oid FROM schemas) AND relkind IN ('r', 'S', 'v')
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace IN (SELECT oid FROM schemas)
        UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT typname FROM pg_type WHERE typnamespace IN (SELECT oid FROM schemas)
            AND typname !~ '^_?votes$'
    """
    return {name for (name,) in database.execute(query).fetchall()} - {"votes"}


@contextmanager
def clients_of(settings: Settings) -> Iterator[Clients]:
    """Clients as the function ops has them."""
    clients = Clients(settings)
    yield clients
    clients.close()


# ---------------------------------------------------------------- Together


def test_both_producers_may_run_together_for_as_long_as_one_likes(
    old_database_url: str, settings: Settings, our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    with our_worker(), Electorate(settings) as electorate:
        electorate.go_on(1500)
        electorate.stop()
        drained()
    assert rows(database) == electorate.last
    assert_tally_follows(database)


def test_both_producers_messages_lie_in_one_list_in_the_order_of_their_votes(redis: Redis, clients: Clients) -> None:
    OldProducer(redis).push("x", "a")
    VoteQueue(clients.redis()).push(Vote("b", "x"))
    assert redis.lrange(VOTES, 0, -1) == [b'{"vote": "b", "voter_id": "x"}', b'{"voter_id": "x", "vote": "a"}']


def test_the_tally_follows_the_old_worker_whose_role_may_write_votes_only(
    old_worker: Callable[[], OldWorker], settings: Settings, drained: Wait, database: psycopg.Connection
) -> None:
    VoteTable(database).install()
    with old_worker(), Electorate(settings) as electorate:
        electorate.go_on()
        electorate.stop()
        drained()
    assert rows(database).keys() == electorate.last.keys()
    assert_tally_follows(database)


# ---------------------------------------------------------------- What the old worker does to votes that wait together


def test_the_old_worker_lets_the_older_of_two_waiting_choices_win_and_ours_does_not(
    redis: Redis, old_worker: Callable[[], OldWorker], our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    for voter in ("old", "ours"):
        OldProducer(redis).push(voter, "a")
        OldProducer(redis).push(voter, "b")
        with old_worker() if voter == "old" else our_worker():
            drained()
    assert rows(database) == {"old": "a", "ours": "b"}


def test_a_producer_that_pushes_at_the_tail_turns_the_order_round(
    redis: Redis, old_database_url: str, our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    """Why preflight looks which end the producers push to: such a one must be changed first."""
    redis.rpush(VOTES, spelled("x", "a"), spelled("x", "b"))
    with our_worker():
        drained()
    assert rows(database) == {"x": "a"}


# ---------------------------------------------------------------- Over, and back, under load


def test_a_list_that_is_marked_before_the_first_deployment_stays_the_old_workers(
    redis: Redis, settings: Settings, old_worker: Callable[[], OldWorker], our_worker, database: psycopg.Connection
) -> None:
    redis.set("{votes}:handed_back", f"{int(time.time())}000")
    with our_worker() as runs, old_worker() as old, Electorate(settings) as electorate:
        wait_for(lambda: len(runs) > 1, "two runs")
        electorate.go_on()
        electorate.stop()
        wait_for(lambda: old.popped.total() == electorate.pushed, "the old worker to drain")
    assert all(run.handed_back and not run.stored for run in runs)
    assert ours(database) == set()
    assert rows(database).keys() == electorate.last.keys()
    assert_right(electorate, database, set(electorate.patient))


def test_what_we_added_to_the_database_can_be_removed_while_the_old_worker_drains(
    settings: Settings, old_worker: Callable[[], OldWorker], drained: Wait, database: psycopg.Connection
) -> None:
    VoteTable(database).install()
    with old_worker(), Electorate(settings) as electorate:
        electorate.go_on()
        database.execute(removal())
        electorate.go_on()
        electorate.stop()
        drained()
    assert rows(database).keys() == electorate.last.keys()
    assert ours(database) == set()


def test_a_writer_that_is_under_way_and_the_removal_do_not_wait_for_each_other(
    database: psycopg.Connection, database_url: str
) -> None:
    VoteTable(database).install()
    waits = "SELECT FROM pg_locks WHERE NOT granted"
    with psycopg.connect(database_url) as writer, psycopg.connect(database_url, autocommit=True) as operator:
        writer.execute("LOCK TABLE votes IN ROW EXCLUSIVE MODE")  # as an INSERT has it before its triggers run
        with ThreadPoolExecutor(1) as pool:
            removing = pool.submit(operator.execute, removal())
            wait_for(lambda: database.execute(waits).fetchone() is not None, "the removal to wait")
            writer.execute("INSERT INTO votes VALUES ('v', 'a')")
            writer.commit()
            removing.result()
    assert database.execute("SELECT * FROM votes").fetchall() == [("v", "a")]
    assert ours(database) == set()


@pytest.mark.parametrize("removed", ["before the next run", "in the middle of a run"])
def test_what_is_removed_after_handing_back_stays_removed_until_we_take_over_again(
    redis: Redis, settings: Settings, our_worker, old_worker: Callable[[], OldWorker], drained: Wait, database, removed
) -> None:
    old = OldProducer(redis)
    with clients_of(settings) as clients:
        with our_worker() as runs:
            old.push("x", "a")
            drained()
            if removed == "in the middle of a run":
                hand_back(clients)
                database.execute(removal())
            hand_back(clients)
        if removed == "before the next run":
            database.execute(removal())
        with our_worker() as runs:
            wait_for(lambda: len(runs) > 2, "three runs")
            with old_worker():
                old.push("y", "b")
                drained()
        assert all(run.handed_back for run in runs)
        assert ours(database) == set()

        assert take_over(clients).changed
        with our_worker():
            old.push("x", "b")
            drained()
    assert rows(database) == {"x": "b", "y": "b"}
    assert_tally_follows(database)
    assert ours(database) >= {"vote_tally", "vote_worker_fence", "vote_tally_insert", "vote_tally_apply"}


@pytest.mark.parametrize("statement", ["TRUNCATE vote_worker_fence", "DROP TABLE vote_worker_fence"])
def test_the_draining_is_handed_back_without_a_fence(
    settings: Settings, redis, our_worker, database, statement
) -> None:
    VoteTable(database).install()
    database.execute(statement)
    with clients_of(settings) as clients:
        assert hand_back(clients).changed
        with our_worker() as runs:
            wait_for(lambda: runs, "a run")
    assert runs[0].handed_back


def test_a_run_that_finds_nothing_of_ours_returns_what_an_earlier_one_left_in_process(
    redis: Redis, settings: Settings, our_worker, database
) -> None:
    old = OldProducer(redis)
    for voter in "xyz":
        old.push(voter, "a")
    waiting = redis.lrange(VOTES, 0, -1)
    with clients_of(settings) as clients:
        VoteQueue(clients.redis()).claim(1, most=2, most_bytes=1000)
    redis.set("{votes}:handed_back", f"{int(time.time())}000")
    with our_worker() as runs:
        wait_for(lambda: runs, "a run")
    assert redis.lrange(VOTES, 0, -1) == waiting
    assert ours(database) == set()


def test_taking_over_under_load_loses_no_vote(
    settings: Settings, old_worker: Callable[[], OldWorker], our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    with Electorate(settings) as electorate:
        with old_worker() as old:
            electorate.go_on()
        with our_worker() as runs:
            electorate.go_on(100)
            electorate.mark()
            electorate.go_on(1000)
            electorate.stop()
            drained()
    assert sum(old.popped.values()) + sum(run.stored for run in runs) == electorate.pushed
    assert_nothing_is_lost(electorate, database)
    assert_right(electorate, database, set(electorate.patient))
    assert_right(electorate, database, electorate.voted_since_mark)


def test_handing_back_under_load_loses_no_vote(
    settings: Settings, old_worker: Callable[[], OldWorker], our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    with Electorate(settings, patient=0) as electorate, our_worker() as runs:
        electorate.go_on(1000)
        with clients_of(settings) as clients:
            hand_back(clients)
        assert runs[0].handed_back or runs[0].superseded
        with old_worker() as old:
            electorate.go_on()
            electorate.stop()
            drained()
    assert min(sum(old.popped.values()), sum(run.stored for run in runs)) > 0
    assert_nothing_is_lost(electorate, database)


def test_handing_back_at_a_quiet_moment_keeps_every_choice(
    settings: Settings, old_worker: Callable[[], OldWorker], our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    with clients_of(settings) as clients:
        producer = OldProducer(clients.redis())
        with our_worker():
            producer.push("x", "a")
            drained()
            assert hand_back(clients).returned == 0
            producer.push("x", "b")
            with old_worker():
                drained()
    assert rows(database) == {"x": "b"}


def test_over_and_back_and_over_again(
    settings: Settings, old_worker: Callable[[], OldWorker], our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    with clients_of(settings) as clients, Electorate(settings, patient=0) as electorate, our_worker():
        for _ in range(2):
            electorate.go_on(300)
            hand_back(clients)
            with old_worker():
                electorate.go_on(300)
                with pytest.raises(StillDrained):
                    take_over(clients)
            take_over(clients)
        electorate.go_on(300)
        electorate.mark()
        electorate.go_on(300)
        electorate.stop()
        drained()
    assert_nothing_is_lost(electorate, database)
    assert_right(electorate, database, electorate.voted_since_mark)


# ---------------------------------------------------------------- Where it goes wrong on the way


def test_a_batch_of_a_killed_run_is_handed_back_in_its_place(
    old_worker: Callable[[], OldWorker], clients: Clients, redis: Redis, drained: Wait, database: psycopg.Connection
) -> None:
    old = OldProducer(redis)
    VoteTable(database).install()
    for voter in ("x", "y", "z"):
        old.push(voter, "a")
    queue = VoteQueue(clients.redis())
    assert len(queue.claim(VoteTable(database).take_fence(), most=2, most_bytes=1000)) == 2  # and it is killed
    old.push("w", "b")
    assert hand_back(clients).waiting == 4
    assert redis.lrange(VOTES, 0, -1) == [spelled("w", "b"), *(spelled(voter, "a") for voter in "zyx")]
    with old_worker():
        drained()
    assert rows(database) == {"x": "a", "y": "a", "z": "a", "w": "b"}


def test_the_vote_in_hand_of_a_killed_old_worker_stands_in_its_log(
    redis: Redis, old_worker: Callable[[], OldWorker], our_worker, drained: Wait, database: psycopg.Connection
) -> None:
    """The one vote that the old design itself can lose, and how docs/guides/migrate.md brings it back."""
    OldProducer(redis).push("x", "b")
    killed = old_worker()
    assert killed.take() == ("x", "b")
    killed.stop()
    assert redis.llen(VOTES) == 0
    assert killed.log[-1] == "Processing vote for 'b' by 'x'"
    redis.rpush(VOTES, spelled("x", "b"))
    with our_worker():
        drained()
    assert rows(database) == {"x": "b"}
