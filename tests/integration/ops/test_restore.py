"""The restore to a point in time, by the commands of the guide.

What needs RDS is asked of moto, and botocore checks the names of its arguments. What RDS does meanwhile, a real
PostgreSQL does here: base backup, archived WAL, and recovery to a time, into another instance.
"""

import json
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from awslambdaric.lambda_context import LambdaContext
from botocore import xform_name
from moto import mock_aws
from redis import Redis

from tests.conftest import ROOT, Handler, event
from tests.debian_postgres import ENV, initialised, own, program, serving, user
from tests.deployment import answering
from tests.stack import wait_for
from votectl.__main__ import main
from voting.database.vote_table import VoteTable
from voting.queue.vote_queue import VOTES
from voting.results.snapshot import Snapshots
from voting.vote import Vote
from voting.worker.drain import STOP_BEFORE_END_S

NAMES = {
    "FUNCTION": "OpsFunction",
    "SCHEDULE": "every-minute",
    "DATABASE": "a-database",
    "SUBNETS": "subnets",
    "GROUP": "sg-0123456789abcdef0",
    "PARAMETERS": "parameters",
}


def runbook(at: datetime) -> list[list[str]]:
    """The commands of the guide, with names in place of what it has in capitals."""
    guide = (ROOT / "docs/guides/operate.md").read_text()
    found = re.search(r"<!-- restore -->\n```sh\n(.*?)```", guide, re.DOTALL)
    assert found
    text = re.sub(r"\b[A-Z]{4,}\b", lambda name: (NAMES | {"TIME": at.isoformat()})[name[0]], found[1])
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]


@dataclass
class Server:
    """A PostgreSQL that archives its WAL, and what is restored from it."""

    folder: Path
    closing: ExitStack
    url: str = ""
    instances: dict[str, str] = field(default_factory=dict)  # URL by RDS's name

    def start(self) -> None:
        self.archive.mkdir()
        own(self.archive)
        settings = {"archive_mode": "on", "archive_command": f"cp %p {self.archive}/%f"}
        self.url = self.closing.enter_context(serving(initialised(self.folder), **settings))

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    def back_up(self) -> None:
        command = [program("pg_basebackup"), "-D", self.copy, "-d", self.url, "--checkpoint=fast", "-X", "none"]
        self.copy.parent.mkdir()
        own(self.copy.parent)
        subprocess.run(command, env=ENV, check=True, capture_output=True, **user())

    @property
    def copy(self) -> Path:
        return self.folder / "restored" / "data"

    def restore(self, at: datetime) -> str:
        """As RDS does: another instance, with all that was committed until *at*."""
        with psycopg.connect(self.url, autocommit=True) as database:
            (segment,) = database.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone() or ("",)
        wait_for((self.archive / segment).exists, "the last WAL to be archived")
        (self.copy / "recovery.signal").touch()
        own(self.copy / "recovery.signal")
        recovery = {
            "restore_command": f"cp {self.archive}/%f %p",
            "recovery_target_time": at.isoformat(),
            "recovery_target_action": "promote",
        }
        return self.closing.enter_context(serving(self.copy, **recovery))


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        own(Path(folder))
        server = Server(Path(folder), closing)
        server.start()
        yield server


@pytest.fixture
def rds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The instance, the network and the schedule of a stack, at moto."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        ec2, rds = boto3.client("ec2"), boto3.client("rds")
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
        rds.create_db_subnet_group(DBSubnetGroupName="subnets", DBSubnetGroupDescription="-", SubnetIds=subnets)
        rds.create_db_parameter_group(
            DBParameterGroupName="parameters", DBParameterGroupFamily="postgres17", Description="-"
        )
        rds.create_db_instance(
            DBInstanceIdentifier="a-database",
            DBInstanceClass="db.t4g.medium",
            Engine="postgres",
            AllocatedStorage=20,
            MasterUsername="voting",
            MasterUserPassword="secret-of-the-master",  # moto cannot copy an instance whose password it manages
            DBSubnetGroupName="subnets",
        )
        boto3.client("scheduler").create_schedule(
            Name="every-minute",
            ScheduleExpression="rate(1 minute)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": "arn:aws:lambda:eu-central-1:123456789012:function:w", "RoleArn": "arn:aws:iam::1:role/r"},
        )
        yield rds


def ask(rds: Any, words: list[str]) -> None:
    """Send `aws rds …`, whose arguments have the names and kinds of botocore's model, as in AWS's command line."""
    operation, *rest = words
    waits = operation == "wait"
    if waits:
        operation, *rest = rest
    waiter = rds.get_waiter(operation.replace("-", "_")) if waits else None
    api = waiter.config.operation if waiter else rds.meta.method_to_api_mapping[operation.replace("-", "_")]
    shape = rds.meta.service_model.operation_model(api).input_shape
    members = {xform_name(name, "-"): (name, member) for name, member in shape.members.items()}
    arguments: dict[str, Any] = {}
    while rest:
        name, member = members[rest.pop(0).removeprefix("--")]
        values = []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        given = {"boolean": True, "list": values}.get(member.type_name)
        arguments[name] = values[0] if given is None else given
    waiter.wait(**arguments) if waiter else getattr(rds, operation.replace("-", "_"))(**arguments)


Tell = Callable[[str], None]


@pytest.fixture
def use(handler: Callable[[str], Handler], monkeypatch: pytest.MonkeyPatch, context: LambdaContext) -> Iterator[Tell]:
    """Say which database the functions reach; ops answers to invocations."""
    ops = handler("ops")

    def invoke(_path: str, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        return 200, json.dumps(ops(json.loads(body), context)).encode(), {}

    with answering(invoke) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", address)
        yield lambda url: monkeypatch.setenv("DATABASE_URL", url)


def work(handler: Callable[[str], Handler]) -> dict[str, Any]:
    """One run of the worker, of half a second."""
    deadline_ms = int((time.time() + STOP_BEFORE_END_S + 0.5) * 1000)
    counted: dict[str, Any] = handler("worker")(
        event("schedule"), LambdaContext("1", None, {}, deadline_ms, "arn:aws:lambda:eu-central-1:1:function:w")
    )
    return counted


def cast(redis: Redis, voters: range, choice: str) -> None:
    for voter in voters:
        redis.lpush(VOTES, Vote(choice, f"{voter:016x}").encode())


def test_the_runbook_brings_back_a_point_in_time_and_new_votes_are_counted(
    server: Server, rds: Any, use: Tell, handler, redis: Redis, database_url: str, capsys
) -> None:
    use(server.url)
    cast(redis, range(6), "a")
    assert work(handler)["stored"] == 6
    server.back_up()
    cast(redis, range(6, 9), "b")
    assert work(handler)["stored"] == 3
    with psycopg.connect(server.url, autocommit=True) as broken:
        (at,) = broken.execute("SELECT clock_timestamp()").fetchone() or (None,)
        assert isinstance(at, datetime)
        cast(redis, range(9, 11), "b")  # counted after that time: lost
        assert work(handler)["stored"] == 2
        broken.execute("DELETE FROM votes WHERE vote = 'a'")
        work(handler)
        seen = Snapshots(redis).read()
        assert seen is not None
        assert dict(seen.tally.counts) == {"b": 5}
        newest = VoteTable(broken).fence()
    instances = {"a-database": server.url}
    for command in runbook(at.astimezone(UTC)):
        if command[0] == "aws":
            ask(rds, command[2:])
            if command[2] == "restore-db-instance-to-point-in-time":
                cast(redis, range(11, 12), "a")  # while it restores
                instances["a-database-restored"] = server.restore(at)
            elif "--new-db-instance-identifier" in command:
                before, after = (command[command.index(f"--{w}db-instance-identifier") + 1] for w in ("", "new-"))
                instances[after] = instances.pop(before)
            use(instances.get("a-database", database_url))
        else:
            assert command[:3] == [".venv/bin/python", "-m", "votectl"]
            assert main(command[3:]) == 0, capsys.readouterr()
    assert boto3.client("scheduler").get_schedule(Name="every-minute")["State"] == "ENABLED"
    assert {one["DBInstanceIdentifier"] for one in rds.describe_db_instances()["DBInstances"]} == instances.keys()
    assert instances["a-database-before"] == server.url

    assert work(handler)["stored"] == 1  # what was cast meanwhile
    cast(redis, range(12, 14), "b")
    cast(redis, range(1), "b")  # a voter of before chooses again
    assert work(handler)["stored"] == 3
    with psycopg.connect(instances["a-database"], autocommit=True) as restored:
        table = VoteTable(restored)
        assert dict(table.tally().counts) == table.count() == {"a": 6, "b": 6}
        assert table.fence() > newest
    shown = Snapshots(redis).read()
    assert shown is not None
    assert dict(shown.tally.counts) == {"a": 6, "b": 6}
    assert shown.tally.version > seen.tally.version


def test_a_command_with_a_misspelt_argument_is_found(rds: Any) -> None:
    with pytest.raises(KeyError, match="restore-at"):
        ask(rds, ["restore-db-instance-to-point-in-time", "--restore-at", "now"])
