"""How the results are announced: the snapshot, and whose turn it is.

Covers publisher.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from redis import Redis

from local.template.reader import Run, load
from tests.aws_endpoint import AwsEndpoint, serving
from tests.conftest import ROOT
from voting.broadcast import planner
from voting.broadcast.subscribers import Subscribers, bucket_of
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.question import Question
from voting.queue.queue_view import PROGRESS, VOTES
from voting.queue.trouble import read_trouble
from voting.results.snapshot import SNAPSHOT, TROUBLE, Snapshots
from voting.settings import InvalidSetting, Settings
from voting.tally import Tally
from voting.vote import Vote
from voting.worker.publisher import ResultsPublisher

DEADLINE_S = 10.0
TEMPLATE = ROOT / "template.yaml"
QUESTION = Question.of("", ["Cats", "Dogs"])


class Lambda:
    """moto's Lambda, and what was invoked there."""

    def __init__(self) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.refusals = 0  # invokes that cannot be sent, from now on

    def watch(self, clients: Clients) -> None:
        clients.lambda_().meta.events.register("before-call.lambda.Invoke", self._note)

    def _note(self, params: dict[str, Any], **_: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise EndpointConnectionError(endpoint_url="https://lambda.eu-central-1.amazonaws.com")
        assert params["headers"]["X-Amz-Invocation-Type"] == "Event"
        self.payloads.append(json.loads(params["body"]))


@pytest.fixture
def lambda_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws(config={"lambda": {"use_docker": False}}):
        role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        boto3.client("lambda").create_function(
            FunctionName="WsBroadcastFunction",
            Role=role,
            Runtime="python3.13",
            Handler="app.handler",
            Code={"ZipFile": b"unused"},
        )
        yield Lambda()


@pytest.fixture
def invoke_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEndpoint]:
    with serving(monkeypatch, "LAMBDA", lambda: (202, b"")) as endpoint:
        yield endpoint


@contextmanager
def publishing(settings: Settings, lambda_: Lambda, **env: str) -> Iterator[ResultsPublisher]:
    clients = Clients(Settings({**settings.env, **env}))
    lambda_.watch(clients)
    with ResultsPublisher(clients) as publisher:
        yield publisher


def comes(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.01)
    return True


def version(redis: Redis) -> int | None:
    snapshot = Snapshots(redis).read()
    return snapshot.tally.version if snapshot else None


def test_the_snapshot_follows_whoever_writes(redis, table, database, settings, lambda_) -> None:
    with publishing(settings, lambda_):
        assert comes(lambda: version(redis) == table.tally().version)
        database.execute("INSERT INTO votes VALUES ('x', 'a')")
        assert comes(lambda: version(redis) == table.tally().version)
        assert Snapshots(redis).read().tally.counts == {"a": 1}


def test_an_unchanged_tally_is_confirmed(redis, table, settings, lambda_) -> None:
    with publishing(settings, lambda_):
        assert comes(lambda: version(redis) is not None)
        ages: list[float] = []

        def confirmed() -> bool:
            ages.append(Snapshots(redis).read().age_s)
            return len(ages) > 1 and ages[-1] < ages[-2]

        assert comes(confirmed)
        assert max(ages) < 5.0


def test_nobody_there_sets_off_nothing(redis, table, database, settings, lambda_) -> None:
    with publishing(settings, lambda_):
        database.execute("INSERT INTO votes VALUES ('x', 'a')")
        assert comes(lambda: version(redis) == table.tally().version)
    assert lambda_.payloads == []


def test_a_change_sets_off_the_buckets_that_have_subscribers(redis, table, settings, lambda_) -> None:
    Subscribers(redis).add("c=")
    with publishing(settings, lambda_):
        assert comes(lambda: bool(lambda_.payloads))
    set_off_at = lambda_.payloads[0].pop("at")
    assert abs(set_off_at / 1000 - time.time()) < DEADLINE_S
    assert lambda_.payloads[0] == {
        "buckets": [bucket_of("c=")],
        "subscribers": 1,
        "pace": 4000.0,  # all of the budget
        "within_s": 4.5,
        "posts_per_s": 4000.0,
        "version": table.tally().version,
    }


def test_who_has_the_newest_version_is_left_in_peace(redis, table, settings, lambda_) -> None:
    Subscribers(redis).add("c=")
    Subscribers(redis).mark_delivered({bucket_of("c="): table.tally().version})
    with publishing(settings, lambda_):
        assert comes(lambda: version(redis) is not None)
    assert lambda_.payloads == []


def test_a_shard_under_way_is_not_set_off_twice_and_a_lost_one_is(
    redis, table, settings, lambda_, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "PATIENCE_S", 0.5)
    monkeypatch.setattr(planner, "GRACE_S", 0.0)
    Subscribers(redis).add("c=")
    started = time.monotonic()
    with publishing(settings, lambda_):
        assert comes(lambda: len(lambda_.payloads) == 2)
    assert time.monotonic() - started > 0.5


def test_a_shard_that_could_not_be_set_off_is_set_off_at_once(
    redis, table, settings, lambda_, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "PATIENCE_S", 100.0)
    Subscribers(redis).add("one")
    lambda_.refusals = 1
    with publishing(settings, lambda_):
        assert comes(lambda: len(lambda_.payloads) == 1)
    assert lambda_.refusals == 0


def test_all_invocations_go_over_one_connection(redis, table, database, settings, invoke_api: AwsEndpoint) -> None:
    Subscribers(redis).add("c=")
    with ResultsPublisher(Clients(settings)) as publisher:
        for number in range(1, 5):
            assert comes(lambda number=number: len(invoke_api.requests) == number)
            Subscribers(redis).mark_delivered({bucket_of("c="): json.loads(invoke_api.requests[-1])["version"]})
            database.execute("INSERT INTO votes VALUES (%s, 'a')", (f"v{number}",))
            publisher.moved()
    assert invoke_api.connections == 1  # each new one would cost a TLS handshake, twenty times a second


def test_a_plan_is_made_with_what_was_measured_lately(redis, table, settings, lambda_) -> None:
    Subscribers(redis).add("c=")
    Subscribers(redis).mark_speed(1234.5)
    with publishing(settings, lambda_):
        assert comes(lambda: bool(lambda_.payloads))
    assert lambda_.payloads[0]["posts_per_s"] == 1234.5


def test_what_was_measured_long_ago_counts_no_more(redis, table, settings, lambda_) -> None:
    Subscribers(redis).add("c=")
    redis.hset("{votes}:speed", mapping={"posts_per_s": 1234.5, "at": time.time() - planner.SILENCE_S - 1})
    with publishing(settings, lambda_):
        assert comes(lambda: bool(lambda_.payloads))
    assert lambda_.payloads[0]["posts_per_s"] == planner.PRIOR_POSTS_PER_S


def test_changes_in_one_interval_are_one_broadcast(redis, table, database, settings, lambda_) -> None:
    Subscribers(redis).add("c=")
    with publishing(settings, lambda_, BROADCAST_INTERVAL_MS="1000") as publisher:
        for number in range(100):
            database.execute("INSERT INTO votes VALUES (%s, 'a')", (f"v{number}",))
            publisher.moved()
            Subscribers(redis).mark_delivered({bucket_of("c="): version(redis) or 0})
        assert comes(lambda: version(redis) == table.tally().version)
    assert 1 <= len(lambda_.payloads) <= 4


@pytest.mark.parametrize(("interval_ms", "turns"), [("60000", 1), ("50", 6)])
def test_the_worker_takes_a_turn_as_often_as_the_parameter_lets_it(
    redis, table, settings, handler, invoke_api: AwsEndpoint, monkeypatch: pytest.MonkeyPatch, interval_ms, turns
) -> None:
    """From the template's parameter to the invocations, by the function itself: one for the start, one for each vote.

    A vote is sent when the one before it is in the snapshot, and its turn, where one may begin, was taken.
    """
    run = Run(parameters={"BroadcastIntervalMs": interval_ms}, variables=settings.env)
    for name, value in load(TEMPLATE, run).functions["WorkerFunction"].environment.items():
        monkeypatch.setenv(name, value)
    Subscribers(redis).add("c=")
    over = threading.Event()
    context = SimpleNamespace(
        function_name="worker",
        memory_limit_in_mb=512,
        invoked_function_arn="arn",
        aws_request_id="r",
        get_remaining_time_in_millis=lambda: 0 if over.is_set() else 100_000,
    )
    worker = threading.Thread(target=handler("worker"), args=({}, context))
    worker.start()
    try:
        assert comes(lambda: len(invoke_api.requests) == 1)
        for number in range(1, 6):
            Subscribers(redis).mark_delivered({bucket_of("c="): json.loads(invoke_api.requests[-1])["version"]})
            redis.lpush(VOTES, Vote("a", f"v{number}").encode())
            assert comes(lambda number=number: Snapshots(redis).read().tally.counts.get("a") == number)
            assert comes(lambda number=number: len(invoke_api.requests) >= min(turns, 1 + number))
    finally:
        over.set()
        worker.join()
    assert len(invoke_api.requests) == turns


def test_the_next_turn_is_known_before_it_comes(redis, table, settings, lambda_) -> None:
    Subscribers(redis).add("c=")
    began = time.monotonic()
    with publishing(settings, lambda_, BROADCAST_INTERVAL_MS="60000") as publisher:
        assert publisher.next_turn_at() < began  # nothing was sent yet: the first change is shown at once
        assert comes(lambda: bool(lambda_.payloads))
        assert began + 30 < publisher.next_turn_at() < time.monotonic() + 60


def test_versions_of_a_restored_database_outgrow_what_clients_have_seen(redis, table, settings, lambda_) -> None:
    seen = table.tally().version + 10_000_000
    redis.hset("{votes}:snapshot", mapping={"version": seen, "counts": "{}", "at": 0})
    with publishing(settings, lambda_):
        assert comes(lambda: version(redis) > seen)


@pytest.fixture
def subscribed(redis: Redis, table: VoteTable) -> None:
    """A subscriber, and a tally to announce."""
    Subscribers(redis).add("c=")


def serve(redis: Redis, lambda_: Lambda) -> int:
    """Do what ws_broadcast does with what was set off last; return for which version it was."""
    assert comes(lambda: bool(lambda_.payloads))
    version = lambda_.payloads.pop()["version"]
    (bucket,) = Subscribers(redis).read([bucket_of("c=")])
    Subscribers(redis).mark_delivered({bucket.number: version}, {bucket.number: bucket.before})
    return version


def fall_behind(redis: Redis, seconds: int) -> None:
    redis.lpush(VOTES, Vote("a", "waiting").encode())
    redis.set(PROGRESS, redis.time()[0] * 1000 - seconds * 1000)


def test_subscribers_are_sent_a_frame_when_figures_become_stale_and_when_they_are_fresh_again(
    redis, subscribed, settings, lambda_
) -> None:
    with publishing(settings, lambda_):
        shown = serve(redis, lambda_)
        fall_behind(redis, 30)
        assert serve(redis, lambda_) == shown  # the version has not moved
        assert Snapshots(redis).read().results(QUESTION).stale_seconds >= 30
        redis.delete(VOTES)
        assert serve(redis, lambda_) == shown
        assert Snapshots(redis).read().results(QUESTION).stale_seconds is None
    assert lambda_.payloads == []


def test_without_postgres_subscribers_are_told_how_old_their_figures_are_and_only_once(
    redis, subscribed, settings, lambda_
) -> None:
    with publishing(settings, lambda_):
        shown = serve(redis, lambda_)
    redis.hincrby(SNAPSHOT, "at", -60_000)
    for times in (1, 0):  # the next run of the worker knows that they were told
        with publishing(settings, lambda_, DATABASE_URL="postgresql://127.0.0.1:1/postgres"):
            if times:
                assert serve(redis, lambda_) == shown
            assert comes(lambda: read_trouble(redis, TROUBLE) is not None)
            redis.delete(TROUBLE)
            assert comes(lambda: read_trouble(redis, TROUBLE) is not None)  # one more round
        assert lambda_.payloads == []
    with publishing(settings, lambda_):
        assert serve(redis, lambda_) == shown
    assert read_trouble(redis, TROUBLE) is None


def test_an_outage_is_not_logged_five_times_a_second(redis, table, settings, lambda_, caplog) -> None:
    Snapshots(redis).write(Tally(1, {}))
    with publishing(settings, lambda_, DATABASE_URL="postgresql://127.0.0.1:1/postgres"):
        for _ in range(5):
            assert comes(lambda: read_trouble(redis, TROUBLE) is not None)
            redis.delete(TROUBLE)
    assert [record.getMessage() for record in caplog.records].count("the results are not announced") == 1


def test_frames_say_how_often_to_ping(redis, table, settings, lambda_) -> None:
    registry = Subscribers(redis)
    for number in range(30):
        registry.add(f"c{number}")
    with publishing(settings, lambda_, BROADCAST_MESSAGES_PER_S="40"):
        assert comes(lambda: (snapshot := Snapshots(redis).read()) is not None and snapshot.ping_s == 30)


def test_what_breaks_the_publisher_fails_the_run(redis, table, settings, lambda_) -> None:
    Subscribers(redis).add("c=")
    with (
        pytest.raises(InvalidSetting, match="BROADCAST_FUNCTION"),
        publishing(settings, lambda_, BROADCAST_FUNCTION=""),
    ):
        assert comes(lambda: version(redis) is not None)
