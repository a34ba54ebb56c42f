"""The step of a deployment: CloudFormation's request, the function install, the function ops, and the answer.

Covers custom_resource, ops_invocation and log_retention.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import boto3
import psycopg
import pytest
from awslambdaric.lambda_context import LambdaContext
from moto import mock_aws
from redis import Redis

from tests.conftest import Handler
from tests.deployment import LOGINS, MASTER, Deployment, answering
from voting.ops import custom_resource, ops_invocation

ATTRIBUTES = {"WorkerSecretArn": "arn:of-the-worker", "ReaderSecretArn": "arn:of-the-reader"}
KNOWN = {
    "StackId": "arn:aws:cloudformation:…:stack/voting/1",
    "RequestId": "unique",
    "LogicalResourceId": "Installation",
}
INSTALLATION = {
    "ResourceType": "Custom::Installation",
    "ResourceProperties": {"Attributes": ATTRIBUTES, "Release": "1"},
}


@dataclass
class CloudFormation:
    """What listens at the address of the answers."""

    url: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    fails: int = 0  # so many answers are not taken

    def take(self, _path: str, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        if self.fails:
            self.fails -= 1
            return 503, b"", {}
        self.bodies.append(body)
        self.answers.append(json.loads(body))
        return 200, b"", {}


@dataclass
class Lambda:
    """What invokes ops."""

    ops: Handler
    context: LambdaContext
    env: Mapping[str, str]
    breaks: str = ""  # with this type of error
    events: list[Any] = field(default_factory=list)

    def invoke(self, path: str, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        assert path == "/2015-03-31/functions/OpsFunction/invocations"
        self.events.append(json.loads(body))
        if self.breaks:
            text = json.dumps({"errorType": self.breaks, "errorMessage": "secret"}).encode()
            return 200, text, {"X-Amz-Function-Error": "Unhandled"}
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("DATABASE_URL", raising=False)
            for name, value in self.env.items():
                patch.setenv(name, value)
            return 200, json.dumps(self.ops(self.events[-1], self.context)).encode(), {}


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    cloudformation = CloudFormation()
    with answering(cloudformation.take) as address:
        cloudformation.url = f"{address}/answer?X-Amz-Signature=1"
        yield cloudformation


@pytest.fixture
def lambda_(
    deployment: Deployment, handler: Callable[[str], Handler], context: LambdaContext, monkeypatch, redis: Redis
) -> Iterator[Lambda]:
    invoked = Lambda(handler("ops"), context, deployment.env("operator"))
    monkeypatch.setenv("OPS_FUNCTION", "OpsFunction")
    with ExitStack() as closing:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", closing.enter_context(answering(invoked.invoke)))
        yield invoked


@pytest.fixture
def deploy(
    handler: Callable[[str], Handler], cloudformation: CloudFormation, lambda_: Lambda, context: LambdaContext
) -> Callable[..., dict[str, Any]]:
    """Send a request as CloudFormation does, and return the answer that it got."""
    install = handler("install")

    def deploy(kind: str, **more: str) -> dict[str, Any]:
        install({"RequestType": kind, "ResponseURL": cloudformation.url, **KNOWN, **INSTALLATION, **more}, context)
        return cloudformation.answers[-1]

    return deploy


def log_in(deployment: Deployment, job: str, password: str) -> None:
    url = deployment.settings.database_url.rpartition("@")[2]
    psycopg.connect(f"postgresql://{LOGINS[job]}:{password}@{url}").close()


def test_a_new_stack_has_its_logins_before_its_functions(deploy, deployment: Deployment, lambda_: Lambda) -> None:
    assert deploy("Create") == {
        **KNOWN,
        "Status": "SUCCESS",
        "PhysicalResourceId": "Installation",
        "Data": ATTRIBUTES,
    }
    assert lambda_.events == [{"operation": "install", "unless_handed_back": True}]
    for job in LOGINS:
        log_in(deployment, job, f"the-first-of-{job}")
    assert deployment.superuser.execute("SELECT to_regclass('votes') IS NOT NULL").fetchone() == (True,)


def test_updates_repeat_it_under_the_same_id_and_set_what_the_secrets_hold_now(deploy, deployment: Deployment) -> None:
    deploy("Create")
    deployment.superuser.execute(f"ALTER ROLE \"{LOGINS['reader']}\" PASSWORD 'another'")
    deployment.keep("worker", LOGINS["worker"], "the-second")
    for _ in range(2):
        answer = deploy("Update", PhysicalResourceId="Installation")
        assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "Installation")
    log_in(deployment, "worker", "the-second")
    log_in(deployment, "reader", "the-first-of-reader")


def test_a_deleted_stack_deletes_no_login_and_asks_nobody(deploy, deployment: Deployment, lambda_: Lambda) -> None:
    deploy("Create")
    lambda_.breaks = "Runtime.ImportModuleError"
    answer = deploy("Delete", PhysicalResourceId="Installation")
    assert answer["Status"] == "SUCCESS"
    log_in(deployment, "worker", "the-first-of-worker")


def test_a_refusal_is_told_in_a_sentence_without_secrets(
    deploy, deployment: Deployment, cloudformation: CloudFormation, capfd
) -> None:
    deployment.superuser.execute(f"ALTER ROLE {MASTER} NOCREATEROLE")
    answer = deploy("Create")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("The database was not prepared: Postgres refused it (permission denied")
    said = b"".join(cloudformation.bodies).decode() + "".join(capfd.readouterr())
    assert not [password for password in deployment.passwords() if password in said]


def test_a_wrong_password_of_the_owner_is_told(deploy, deployment: Deployment, monkeypatch) -> None:
    monkeypatch.setattr(ops_invocation, "TRY_AGAIN_FOR_S", 0.0)
    deployment.keep("owner", MASTER, "wrong-one")
    answer = deploy("Create")
    assert answer["Status"] == "FAILED"
    assert "the user or the password is wrong" in answer["Reason"]
    assert "wrong-one" not in json.dumps(answer)


def test_an_ops_function_that_breaks_off_is_told_by_the_kind_of_its_error_only(deploy, lambda_: Lambda) -> None:
    lambda_.breaks = "Sandbox.Timedout"
    answer = deploy("Create")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == "The function ops failed (Sandbox.Timedout): see its log."


def test_an_ops_function_out_of_reach_is_told(deploy, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1")
    assert deploy("Create")["Reason"] == "The function ops could not be invoked (EndpointConnectionError)."


def test_a_fault_of_ours_is_answered_too(deploy, monkeypatch) -> None:
    monkeypatch.delenv("OPS_FUNCTION")
    answer = deploy("Create")
    assert (answer["Status"], answer["Reason"].partition(":")[0]) == ("FAILED", "OPS_FUNCTION is not set")


def test_a_reason_of_any_length_fits_into_an_answer(cloudformation: CloudFormation) -> None:
    def refuse() -> None:
        raise custom_resource.NotDone("😀" * 5000)

    event = {"RequestType": "Create", "ResponseURL": cloudformation.url, **KNOWN, "ResourceProperties": {}}
    custom_resource.fulfil(event, refuse)
    assert len(cloudformation.bodies[-1]) <= 4096


def test_an_answer_that_is_not_taken_at_once_is_given_again(deploy, cloudformation: CloudFormation) -> None:
    cloudformation.fails = 1
    assert deploy("Create")["Status"] == "SUCCESS"


def test_a_database_that_comes_up_late_is_waited_for(deploy, deployment: Deployment, monkeypatch, lambda_) -> None:
    monkeypatch.setattr(ops_invocation, "PAUSE_S", 0.0)
    right, invoke = deployment.env("operator"), lambda_.invoke
    lambda_.env = {**right, "DATABASE_PORT": "1"}
    heard: list[int] = []

    def come_up(path: str, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        heard.append(1)
        if len(heard) > 1:
            lambda_.env = right
        return invoke(path, body)

    with answering(come_up) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", address)
        assert deploy("Create")["Status"] == "SUCCESS"
    assert len(heard) == 2


# ---------------------------------------------------------------- the logs of the database

GROUPS = ["/aws/rds/instance/a-database/postgresql", "/aws/rds/instance/a-database/upgrade"]


@pytest.fixture
def limit(
    handler: Callable[[str], Handler], cloudformation: CloudFormation, context: LambdaContext
) -> Callable[..., Any]:
    """Ask install for `DatabaseLogs` as CloudFormation does, where numbers are texts; return the answer."""
    install = handler("install")

    def limit(kind: str, days: str) -> dict[str, Any]:
        resource = {"ResourceType": "Custom::LogRetention", "ResourceProperties": {"LogGroups": GROUPS, "Days": days}}
        install({"RequestType": kind, "ResponseURL": cloudformation.url, **KNOWN, **resource}, context)
        return cloudformation.answers[-1]

    return limit


def kept(logs: Any) -> dict[str, int | None]:
    return {group["logGroupName"]: group.get("retentionInDays") for group in logs.describe_log_groups()["logGroups"]}


@pytest.mark.parametrize("there", [[], GROUPS[:1], GROUPS], ids=["none", "one", "both"])
def test_logs_of_the_database_expire_whoever_made_their_groups(limit, monkeypatch, there: list[str]) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        logs = boto3.client("logs")
        for group in there:  # RDS sets no limit
            logs.create_log_group(logGroupName=group)
        assert limit("Create", "30")["Status"] == "SUCCESS"
        assert kept(logs) == dict.fromkeys(GROUPS, 30)
        assert limit("Update", "7")["Status"] == "SUCCESS"
        assert kept(logs) == dict.fromkeys(GROUPS, 7)
        assert limit("Delete", "7")["Status"] == "SUCCESS"
        assert kept(logs) == dict.fromkeys(GROUPS, 7)  # what it said last can still be read for so long


def test_logs_that_may_not_be_limited_are_told_in_a_sentence(limit, monkeypatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    refusal = json.dumps({"__type": "AccessDeniedException", "message": "a policy of the organization"}).encode()
    with answering(lambda _path, _body: (400, refusal, {})) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", address)
        answer = limit("Create", "30")
    assert (answer["Status"], answer["Reason"]) == (
        "FAILED",
        f"The log group {GROUPS[0]} could not be limited to 30 days (AccessDeniedException).",
    )


def test_logs_service_out_of_reach_is_told(limit, monkeypatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    answer = limit("Create", "30")
    assert answer["Reason"].endswith("(EndpointConnectionError).")
