"""The command line against the whole system, and against AWS's own APIs as moto plays them.

Covers command of each room, demo, function and local_run.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import requests
from moto import mock_aws
from redis import Redis

from tests.stack import Stack, running, wait_for
from votectl.__main__ import main
from votectl.loadtest.plan import Plan, send
from votectl.loadtest.store_audit import Stores, account
from votectl.ops.schedule import ScheduleUnchanged, set_state
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import DEAD, HANDED_BACK, PROCESSING, VOTES
from voting.vote import Vote

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(fresh: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the local system; return its exit code and what it printed."""
    monkeypatch.setenv("LOCAL_RUN_JSON", str(fresh.state_dir / "run.json"))

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(arguments))
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def answer(run: Run) -> Callable[..., dict[str, Any]]:
    """Perform an operation, as a script does."""
    return lambda *arguments: json.loads(run("ops", *arguments, "--json")[1])


@pytest.fixture
def redis(fresh: Stack) -> Iterator[Redis]:
    with Redis.from_url(fresh.redis) as client:
        yield client


@pytest.fixture
def database(fresh: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh.postgres, autocommit=True) as connection:
        yield connection


# ---------------------------------------------------------------- The load test


def test_a_load_is_sent_and_its_accounts_balance(run: Run, database) -> None:
    code, printed = run("loadtest", "--votes", "300", "--voters", "200", "--revote-share", "0.4", "--concurrency", "8")
    assert code == 0, printed
    lines = {" ".join(line.split()) for line in printed.splitlines()}
    assert lines >= {
        "accepted 300",
        "= rows of its voters 180",
        "+ superseded 120",
        "difference 0",
        "last choice right 180",
        "last choice wrong 0",
        "maybes (no answer) 0",
        "THE ACCOUNTS BALANCE",
    }
    assert database.execute("SELECT count(*) FROM votes").fetchone() == (180,)


def test_a_load_by_url_compares_the_totals_and_says_what_it_cannot_see(run: Run, fresh: Stack) -> None:
    code, printed = run("loadtest", "--votes", "100", "--url", fresh.http)
    assert code == 0, printed
    assert "Not checked" in printed


def test_what_the_stores_lost_or_changed_is_found(fresh: Stack, database) -> None:
    voters = asyncio.run(send(Plan.of(60, 40, 0.3, seed=5), fresh.http, 4, lambda _: None))
    stores = Stores(fresh.redis, fresh.postgres)
    try:
        assert stores.wait_drained(20)
        ids = [voter.id for voter in voters if voter.id]
        assert account(voters, stores.holdings(set(ids))).balance
        database.execute("UPDATE votes SET vote = CASE vote WHEN 'a' THEN 'b' ELSE 'a' END WHERE id = %s", (ids[0],))
        changed = account(voters, stores.holdings(set(ids)))
        assert (changed.difference, changed.wrong) == (0, 1)
        database.execute("DELETE FROM votes WHERE id = %s", (ids[1],))
        lost = account(voters, stores.holdings(set(ids)))
        assert (lost.difference, lost.wrong) == (1, 2)
    finally:
        stores.close()


@pytest.mark.parametrize(
    ("store", "away"), [("redis", "redis://127.0.0.1:1/0"), ("postgres", "postgresql://u:p@127.0.0.1:1/x")]
)
def test_a_store_that_is_away_after_the_load_is_told(
    fresh: Stack, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path, store: str, away: str
) -> None:
    described = json.loads((fresh.state_dir / "run.json").read_text()) | {store: away}
    (tmp_path / "run.json").write_text(json.dumps(described), encoding="utf-8")
    monkeypatch.setenv("LOCAL_RUN_JSON", str(tmp_path / "run.json"))
    assert main(["loadtest", "--votes", "5"]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "%" not in line]
    assert error.startswith("The votes were sent, but the accounts cannot be drawn up, since a store is away: ")
    assert away not in error


def test_a_demo_sends_its_votes(run: Run, fresh: Stack) -> None:
    assert run("demo", "--votes", "5", "--rate", "50", "--voters", "1")[0] == 0
    wait_for(lambda: fresh.results()["total"] == 1, "the demo's voter to be counted once")


def test_load_and_demo_vote_for_all_options_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"OPTIONS": "Thai|Pizza|Salad|Soup"}
    with running(tmp_path / "state", "--no-reload", shell=options) as stack:
        monkeypatch.setenv("LOCAL_RUN_JSON", str(stack.state_dir / "run.json"))
        assert main(["loadtest", "--votes", "300", "--voters", "200"]) == 0
        assert "THE ACCOUNTS BALANCE" in capsys.readouterr().out
        before = {option["id"]: option["votes"] for option in stack.results()["options"]}
        assert min(before[choice] for choice in "abcd") > 20
        assert main(["loadtest", "--votes", "60", "--url", stack.http]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] in {"a ", "d "}] == [
            "a",
            "d",
        ]
        total = stack.results()["total"]
        assert main(["demo", "--votes", "40", "--rate", "50", "--voters", "1000"]) == 0
        wait_for(lambda: stack.results()["total"] > total + 30, "the demo's voters to be counted")


# ---------------------------------------------------------------- Operations


def test_status_is_a_table_for_people_and_json_for_scripts(run: Run, answer, redis) -> None:
    redis.rpush(DEAD, DeadLetter("not_json", b"junk").encode())
    code, printed = run("ops", "status", "--count")
    assert code == 0, printed
    lines = {" ".join(line.split()) for line in printed.splitlines()}
    assert lines >= {"waiting 0", "draining ours", "dead letters 1", "not_json 1", "rows, counted 0"}
    dead = answer("status")["dead"]
    assert dead["bytes"] > 0
    assert dead == {"total": 1, "by_reason": {"not_json": 1}, "bytes": dead["bytes"], "dropped": 0, "shortened": 0}


def test_dead_letters_are_listed_queued_again_and_dropped(run: Run, answer, redis, fresh: Stack) -> None:
    redis.rpush(DEAD, DeadLetter("not_json", b"junk\n").encode())
    refused = DeadLetter("refused_by_database", Vote("b", "later").encode(), sqlstate="23514", error="CheckViolation")
    redis.rpush(DEAD, refused.encode())
    listed = run("ops", "dead", "list", "--limit", "5")[1]
    assert "junk\\n" in listed
    assert "refused_by_database 23514" in listed
    assert answer("dead", "requeue")["requeued"] == 1
    wait_for(lambda: fresh.results()["options"][1]["votes"] == 1, "the letter to be counted")
    with pytest.raises(SystemExit):  # without a terminal, nothing confirms it
        run("ops", "dead", "drop")
    assert redis.llen(DEAD) == 1
    assert run("ops", "dead", "drop", "--yes") == (0, "1 letter was dropped\n")


def test_a_wrong_tally_is_exit_code_1_until_it_is_repaired(run: Run, database) -> None:
    database.execute("INSERT INTO votes VALUES ('x', 'a')")
    database.execute("UPDATE voting.vote_tally SET votes = 9 WHERE vote = 'a'")
    assert run("ops", "tally", "verify")[0] == 1
    assert run("ops", "tally", "verify", "--repair")[0] == 0
    assert run("ops", "tally", "verify")[0] == 0


def test_our_own_stores_pass_the_preflight(run: Run) -> None:
    code, printed = run("ops", "preflight", "--watch", "0.5")
    assert code == 0, printed
    assert "ok       the column id is unique" in printed


def test_indexes_are_there(run: Run) -> None:
    assert run("ops", "indexes") == (0, "idx_votes_id    was there\nidx_votes_vote  was there\n")


def test_a_handed_back_list_is_left_alone_until_it_is_taken_over(run: Run, answer, redis, fresh: Stack) -> None:
    try:
        assert answer("handback")["changed"] is True
        redis.lpush(VOTES, Vote("a", "waits").encode())
        invoke(fresh, "WorkerFunction")  # as the schedule does it every minute
        assert (redis.llen(VOTES), redis.exists(PROCESSING)) == (1, 0)
        assert "handed back" in run("ops", "status")[1]
    finally:
        assert answer("takeover")["ok"] is True
    invoke(fresh, "WorkerFunction", wait=False)
    wait_for(lambda: fresh.results()["total"] == 1, "the vote to be counted")
    assert redis.exists(HANDED_BACK) == 0


def invoke(stack: Stack, function: str, *, wait: bool = True) -> None:
    client = boto3.client("lambda", **stack.for_boto3)
    client.invoke(FunctionName=function, InvocationType="RequestResponse" if wait else "Event", Payload=b"{}")
    client.close()


# ---------------------------------------------------------------- On AWS


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield


def make_schedule(group: str = "default") -> dict[str, Any]:
    scheduler = boto3.client("scheduler")
    if group != "default":
        scheduler.create_schedule_group(Name=group)
    scheduler.create_schedule(
        Name="every-minute",
        GroupName=group,
        ScheduleExpression="rate(1 minute)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": "arn:aws:lambda:eu-central-1:123456789012:function:worker",
            "RoleArn": "arn:aws:iam::123456789012:role/r",
            "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
        },
    )
    return described(group)


def described(group: str = "default") -> dict[str, Any]:
    found = boto3.client("scheduler").get_schedule(Name="every-minute", GroupName=group)
    return {key: found[key] for key in ("State", "ScheduleExpression", "FlexibleTimeWindow", "Target")}


@pytest.mark.parametrize(("group", "name"), [("default", "every-minute"), ("votes", "votes/every-minute")])
def test_a_schedule_is_disabled_and_enabled_and_otherwise_as_it_was(aws, group: str, name: str) -> None:
    before = make_schedule(group)
    assert set_state(name, "DISABLED") is True
    assert described(group) == before | {"State": "DISABLED"}
    assert set_state(name, "DISABLED") is False
    assert set_state(name, "ENABLED") is True
    assert described(group) == before


def test_a_schedule_that_is_not_there_is_told(aws) -> None:
    with pytest.raises(ScheduleUnchanged, match="every-minute"):
        set_state("every-minute", "DISABLED")


def test_a_function_that_is_another_is_told_after_the_schedule_was_stopped(aws, capsys) -> None:
    make_schedule()
    assert main(["ops", "--function", "other", "handback", "--schedule", "every-minute"]) == 1
    error = capsys.readouterr().err
    assert "the schedule every-minute is disabled" in error
    assert "is it another function?" in error  # moto answers with what it was sent
    assert described()["State"] == "DISABLED"


def test_a_takeover_whose_schedule_cannot_be_enabled_is_told_as_done(aws, capsys) -> None:
    answer = {"operation": "takeover", "ok": True, "problems": [], "changed": True, "waiting": 3}
    lambda_answers(answer)
    assert main(["ops", "--function", "ours", "takeover", "--schedule", "misspelt"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("our worker drains from its next run on")
    assert "not done" not in printed.err
    assert "misspelt" in printed.err
    assert "run the same command again" in printed.err


def lambda_answers(answer: dict[str, Any]) -> None:
    """Let moto answer the next invocation so; it listens to requests and botocore alone."""
    results = {"results": [json.dumps(answer)], "region": "eu-central-1"}
    requests.post("http://motoapi.amazonaws.com/moto-api/static/lambda-simple/response", json=results, timeout=5)


def test_a_missing_region_is_told(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert main(["ops", "--function", "some", "status"]) == 1
    assert "region" in capsys.readouterr().err
