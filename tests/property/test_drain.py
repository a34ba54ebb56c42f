"""Any interleaving of pushes, claims, crashes and recoveries ends as if the votes had been counted one by one."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from tests.property.messages import JUNK, OPTIONS, settings_of, spelled, votes
from tests.property.sequential import Sequential, assert_kept, judge
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.fence import Superseded
from voting.queue.queue_view import DEAD, PROCESSING, VOTES
from voting.queue.vote_queue import HandedBack, VoteQueue
from voting.settings import Settings
from voting.worker.batch import sort_out
from voting.worker.drain import STOP_BEFORE_END_S, Drain

STEPS = 30
WAIT_S = 0.02  # for a vote: a run ends so much later than it is told to
COUNTED = "SELECT vote, count(*) FROM votes GROUP BY vote"


@dataclass
class Run:
    """One run of the worker, between any two of its steps."""

    token: int
    messages: list[bytes] = field(default_factory=list)  # claimed last
    done: int = 0  # of which so many are stored and wait to be acknowledged
    dead: list[Any] = field(default_factory=list)


class Interleaving(RuleBasedStateMachine):
    """The steps of producers, of any number of runs, and of an operator, in any order, on stores that start empty."""

    runs = Bundle("runs")

    def __init__(self, redis: Redis, database: psycopg.Connection, clients: Clients) -> None:
        super().__init__()
        self.redis = redis
        self.database = database
        self.clients = clients
        self.queue = VoteQueue(clients.redis())
        self.table = VoteTable(database)
        self.pushed: list[bytes] = []
        self.left = 0  # of them, not acknowledged
        self.newest = 0
        self.handed_back = False
        self.options = "ab"
        redis.flushall()
        database.execute("TRUNCATE votes")

    @initialize(options=OPTIONS)
    def deploy(self, options: str) -> None:
        self.options = options

    # ------------------------------------------------------------ producers

    @rule(messages=st.lists(votes() | JUNK, min_size=1, max_size=8))
    def push(self, messages: list[bytes]) -> None:
        self.redis.lpush(VOTES, *messages)
        self.pushed += messages
        self.left += len(messages)

    @rule(messages=st.lists(votes(), min_size=1, max_size=12))
    def push_votes(self, messages: list[bytes]) -> None:
        self.push(messages)

    # ------------------------------------------------------------ runs, each of which may stop for good after any rule

    @rule(target=runs, most=st.integers(2, 9), batches=st.integers(0, 3), takes_over=st.booleans())
    def begin(self, most: int, batches: int, takes_over: bool) -> Run:
        """A new run that gets through some *batches*; half of them are begun by an operator who takes over."""
        if takes_over:
            self.take_over()
        run = Run(self.take_fence())
        self.get_through(run, most, batches)
        return run

    @rule(run=runs, most=st.integers(1, 9), most_bytes=st.sampled_from([1, 100, 10**7]), lost=st.booleans())
    def go_on(self, run: Run, most: int, most_bytes: int, lost: bool) -> None:
        """Its next step; where the reply is *lost*, it drops its batch without knowing what became of it."""
        if run.messages:
            self.record(run, lost=lost)
        else:
            self.claim(run, most, most_bytes, lost=lost)

    @rule(run=runs, most=st.integers(2, 9), batches=st.integers(1, 3))
    def go_on_without_a_fault(self, run: Run, most: int, batches: int) -> None:
        self.get_through(run, most, batches)

    def get_through(self, run: Run, most: int, batches: int) -> None:
        """Up to a batch that is stored and not acknowledged."""
        for _ in range(batches):
            self.claim(run, most, 10**7, lost=False)
            self.record(run, lost=False)

    def claim(self, run: Run, most: int, most_bytes: int, *, lost: bool) -> None:
        """Acknowledge and claim."""
        done, dead, run.done, run.dead, run.messages = run.done, run.dead, 0, [], []
        try:
            messages = self.queue.claim(run.token, most=most, most_bytes=most_bytes, acknowledge=done, dead=dead)
        except Superseded:
            assert run.token < self.queue.greatest_token()
        except HandedBack:
            # Whoever hands back fences off: nothing of what was given back is acknowledged, whatever was done.
            assert self.handed_back
            assert run.token < self.queue.greatest_token() or not done
        else:
            assert not self.handed_back
            assert run.token == self.queue.greatest_token()
            self.left -= done
            run.messages = [] if lost else messages

    def record(self, run: Run, *, lost: bool) -> None:
        """Commit."""
        parsed, dead = sort_out(run.messages, set(self.options))
        try:
            self.table.record(parsed, run.token)
        except Superseded:
            assert run.token < self.newest
            lost = True
        else:
            assert run.token == self.newest
        run.messages, run.done, run.dead = [], 0 if lost else len(run.messages), [] if lost else dead

    @rule()
    def wait(self) -> None:
        """Any run, a superseded one too, moves the oldest vote that waits."""
        if self.redis.llen(VOTES):
            assert self.queue.wait(0.1)

    @rule(run=consumes(runs))
    def crash(self, run: Run) -> None:
        """It never comes back."""

    # ------------------------------------------------------------ the operator

    @rule()
    def hand_back(self) -> None:
        """Stop the claims, fence every run off, return what was in process; doing it twice is harmless."""
        self.handed_back = True
        self.queue.stop_claims()
        self.queue.give_back(self.take_fence())
        assert not self.redis.exists(PROCESSING)

    @rule()
    def take_over(self) -> None:
        self.handed_back = False
        self.queue.allow_claims()

    # ------------------------------------------------------------ what holds

    @invariant()
    def nothing_is_lost_or_moved(self) -> None:
        """What is not acknowledged is the newest of what was pushed, all of it, in its order."""
        queued = [*reversed(self.redis.lrange(PROCESSING, 0, -1)), *reversed(self.redis.lrange(VOTES, 0, -1))]
        assert queued == self.pushed[len(self.pushed) - self.left :]

    @invariant()
    def the_tally_is_the_tables(self) -> None:
        assert dict(self.database.execute(COUNTED).fetchall()) == dict(self.table.tally().counts)

    def teardown(self) -> None:
        """The real worker takes over and drains; then the stores are as the sequential model says."""
        self.take_over()
        env = {**self.clients.settings.env, **settings_of(self.options)}
        clients = Clients(Settings(env), redis_retries=0)
        Drain(clients, until_drained(self.redis), lambda: None, wait_s=WAIT_S).run()
        clients.close()
        expected = Sequential.of(self.pushed, self.options)
        assert dict(self.database.execute("SELECT id, vote FROM votes").fetchall()) == expected.rows
        assert dict(self.table.tally().counts) == expected.tally
        letters = self.redis.lrange(DEAD, 0, -1)
        assert len(letters) == len(expected.dead)
        for letter, (reason, message) in zip(letters, expected.dead, strict=True):
            assert_kept(letter, reason, message)

    def take_fence(self) -> int:
        token = self.table.take_fence(self.queue.greatest_token())
        assert token > self.newest
        self.newest = token
        return token


def until_drained(redis: Redis) -> Callable[[], float]:
    """A clock whose time is up once nothing is queued or in process, or after a minute."""
    deadline = time.monotonic() + 60.0

    def remaining_s() -> float:
        is_drained = redis.llen(VOTES) + redis.llen(PROCESSING) == 0
        return 0.0 if is_drained or time.monotonic() > deadline else STOP_BEFORE_END_S + 1

    return remaining_s


def test_any_interleaving_ends_as_the_sequential_model_does(
    redis: Redis, database: psycopg.Connection, clients: Clients
) -> None:
    VoteTable(database).install()
    most = math.ceil(examples.default.max_examples * 0.4)
    run_state_machine_as_test(
        lambda: Interleaving(redis, database, clients), settings=examples(max_examples=most, stateful_step_count=STEPS)
    )


# A stranger's trigger, which raises for one voter what the test says.
CULPRIT = "culprit"
RAISE = f"""
CREATE TABLE raised (code text);
CREATE FUNCTION raise_for_one() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE code text := (SELECT raised.code FROM raised);
BEGIN
    IF NEW.id = '{CULPRIT}' THEN RAISE EXCEPTION '% must not vote', NEW.id USING ERRCODE = code; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER raise_for_one BEFORE INSERT OR UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION raise_for_one()
"""
SQLSTATES = st.sampled_from(
    [
        *("08006", "22001", "22P05", "23505", "23514", "25006", "40001", "40P01", "42501", "42P01", "42P10", "53100"),
        *("55000", "55P03", "57014", "57P01", "58030", "P0001", "XX000"),
    ]
) | st.from_regex(r"[0-9A-Z][1-9A-Z][0-9A-Z]{3}", fullmatch=True)
CULPRITS = st.builds(
    spelled, st.just('{{"vote": {choice}, "voter_id": {voter}}}'), st.sampled_from("ab"), st.just(CULPRIT)
)


def test_whatever_the_database_raises_for_one_message_all_others_are_stored_in_order(
    redis: Redis, database: psycopg.Connection, settings: Settings
) -> None:
    VoteTable(database).install()
    database.execute(RAISE)

    @given(
        st.lists(votes() | JUNK, max_size=30),
        CULPRITS,
        st.data(),
        SQLSTATES,
        st.sampled_from([1, 3, 8, 20_000]),
        OPTIONS,
    )
    @examples(max_examples=math.ceil(examples.default.max_examples * 0.4))
    def check(messages: list[bytes], culprit: bytes, data: st.DataObject, code: str, batch: int, options: str) -> None:
        at = data.draw(st.integers(0, len(messages)))
        messages = [*messages[:at], culprit, *messages[at:]]
        redis.flushall()
        database.execute("TRUNCATE votes, raised")
        database.execute("INSERT INTO raised VALUES (%s)", (code,))
        redis.lpush(VOTES, *messages)
        env = {**settings.env, **settings_of(options), "BATCH_VOTES": str(batch)}
        clients = Clients(Settings(env), redis_retries=0)
        Drain(clients, until_drained(redis), lambda: None, patience_s=0.05, wait_s=WAIT_S).run()
        clients.close()
        assert_others_are_stored(messages, culprit, code, options)

    def assert_others_are_stored(messages: list[bytes], culprit: bytes, code: str, options: str) -> None:
        expected = Sequential.of((message for message in messages if message is not culprit), options)
        assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == expected.rows
        assert dict(VoteTable(database).tally().counts) == expected.tally
        reasons = [
            ("refused_by_database" if message is culprit else judge(message, options)[0], message)
            for message in messages
        ]
        letters = redis.lrange(DEAD, 0, -1)
        for letter, (reason, message) in zip(letters, [found for found in reasons if found[0]], strict=True):
            assert_kept(letter, str(reason), message)
        assert [said["sqlstate"] for said in map(json.loads, letters) if "sqlstate" in said] == [code]

    check()
