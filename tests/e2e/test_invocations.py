"""The functions invoked by hand, through boto3: single ones, and runs of the worker on top of each other."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
import httpx
import psutil
import psycopg
import pytest
from botocore.config import Config
from mypy_boto3_lambda import LambdaClient
from redis import Redis

from tests.conftest import event
from tests.e2e.voter import cast
from tests.stack import Stack, wait_for


@pytest.fixture
def lambda_(fresh: Stack) -> Iterator[LambdaClient]:
    client = boto3.client(
        "lambda",
        **fresh.for_boto3,
        config=Config(read_timeout=150, retries={"total_max_attempts": 1}, proxies={}),
    )
    yield client
    client.close()


def token(database: psycopg.Connection) -> int:
    """How many runs of the worker have begun."""
    row = database.execute("SELECT token FROM voting.vote_worker_fence").fetchone()
    assert row is not None
    return int(row[0])


def test_vote_function_invoked_with_an_event_counts_the_vote(
    lambda_: LambdaClient, database: psycopg.Connection
) -> None:
    answer = lambda_.invoke(FunctionName="VoteFunction", Payload=json.dumps(event("http-post-json")))
    assert answer["StatusCode"] == 200
    assert "FunctionError" not in answer
    response = json.load(answer["Payload"])
    assert response["statusCode"] == 202
    assert json.loads(response["body"]) == {"vote": "a", "status": "queued"}
    voter_id = next(c for c in response["cookies"] if c.startswith("voter_id=")).partition(";")[0][len("voter_id=") :]
    wait_for(
        lambda: database.execute("SELECT id, vote FROM votes").fetchall() == [(voter_id, "a")], "the vote in the table"
    )


def test_function_that_is_not_there_is_told_as_aws_does(lambda_: LambdaClient) -> None:
    with pytest.raises(lambda_.exceptions.ResourceNotFoundException):
        lambda_.invoke(FunctionName="NoSuchFunction")


def test_overlapping_runs_of_the_worker_change_nothing_and_lose_nothing(
    fresh: Stack, lambda_: LambdaClient, http: httpx.Client, redis: Redis, database: psycopg.Connection
) -> None:
    expected = {cast(http, "a"): "a" for _ in range(20)}
    wait_for(lambda: fresh.results()["total"] == 20, "the votes before")
    before, began = fresh.results(), token(database)
    for _ in range(2):
        answer = lambda_.invoke(FunctionName="WorkerFunction", InvocationType="Event", Payload=b"{}")
        assert answer["StatusCode"] == 202
    wait_for(lambda: token(database) >= began + 2, "both runs to begin")
    assert fresh.results() == before
    expected |= {cast(http, "b"): "b" for _ in range(20)}
    wait_for(lambda: fresh.results()["total"] == 40, "the votes after")
    assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == expected
    assert redis.llen("{votes}:dead") == 0


def test_older_run_ends_well_while_votes_go_on(
    lambda_: LambdaClient, http: httpx.Client, database: psycopg.Connection
) -> None:
    began = token(database)
    payload = json.dumps(event("schedule"))
    with ThreadPoolExecutor(1) as pool:
        older = pool.submit(lambda_.invoke, FunctionName="WorkerFunction", Payload=payload)
        wait_for(lambda: token(database) > began, "the older run to begin")
        expected = {cast(http, "a"): "a" for _ in range(5)}
        older_token = token(database)
        lambda_.invoke(FunctionName="WorkerFunction", InvocationType="Event", Payload=payload)
        while not older.done():
            expected |= {cast(http, "b"): "b"}
        answer = older.result()
    assert token(database) > older_token
    assert "FunctionError" not in answer
    counted = json.load(answer["Payload"])
    assert counted["superseded"] is True
    assert counted["parked"] == 0
    wait_for(
        lambda: dict(database.execute("SELECT id, vote FROM votes").fetchall()) == expected, "every vote in the table"
    )


def test_worker_killed_in_the_middle_of_a_stream_loses_nothing(
    fresh: Stack, lambda_: LambdaClient, redis: Redis, database: psycopg.Connection
) -> None:
    expected = {}
    for number in range(3000):
        if number == 1500:
            workers = processes(fresh, "WorkerFunction")
            assert workers
            for worker in workers:
                worker.kill()
        voter_id, choice = f"voter-{number % 1000}", "ab"[number % 7 % 2]
        redis.lpush("votes", json.dumps({"vote": choice, "voter_id": voter_id}))
        expected[voter_id] = choice
    lambda_.invoke(FunctionName="WorkerFunction", InvocationType="Event", Payload=b"{}")
    wait_for(lambda: redis.llen("votes") + redis.llen("{votes}:processing") == 0, "the next run to take over")
    assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == expected


def test_dropped_table_is_made_again_with_the_next_vote(
    fresh: Stack, http: httpx.Client, database: psycopg.Connection
) -> None:
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote")
    version = fresh.results()["version"]
    database.execute("DROP TABLE votes")
    cast(http, "b")
    results = wait_for(lambda: (now := fresh.results())["version"] > version and now, "a newer version")
    wait_for(lambda: fresh.results()["total"] == 1, "the next vote alone")
    assert results["version"] > version
    assert database.execute("SELECT vote FROM votes").fetchall() == [("b",)]


def processes(stack: Stack, function: str) -> list[psutil.Process]:
    """The execution environments of *function*."""
    children = psutil.Process(stack.pid).children()
    return [child for child in children if child.environ().get("AWS_LAMBDA_FUNCTION_NAME") == function]
