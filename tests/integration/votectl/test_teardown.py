"""`votectl teardown` against moto, with AWS's slowness and refusals put in front of it.

Covers doomed, network, silence, deletion, kept, remains and deployed_stack.
"""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.aws_front import Answer, AwsFront, as_xml
from tests.conftest import ROOT
from tests.stack import heeding_interrupts, wait_for
from votectl.__main__ import main
from votectl.aws_account import AwsAccount, Unanswered
from votectl.deployed_stack import OF_EVERY_VERSION, find_stack
from votectl.environment import defaults
from votectl.teardown import silence
from votectl.teardown.deletion import delete
from votectl.teardown.network import StillThere, take_out, wait_for_interfaces

NAME = "voting-dev"
CHANGES = ("PUT ", "DELETE ", "Delete", "Modify", "Update")


def function(**vpc: Any) -> dict[str, Any]:
    code = {"Code": {"ZipFile": "def handler(e, c): pass"}, "Handler": "index.handler", "Runtime": "python3.13"}
    return {"Type": "AWS::Lambda::Function", "Properties": {**code, "Role": {"Fn::GetAtt": ["Role", "Arn"]}, **vpc}}


INSIDE = {"SubnetIds": [{"Ref": "Subnet"}], "SecurityGroupIds": [{"Ref": "FunctionSecurityGroup"}]}
TRUST = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
DATABASE = {
    "Engine": "postgres",
    "DBInstanceClass": "db.t4g.micro",
    "AllocatedStorage": "20",
    "MasterUsername": "voting",
    "MasterUserPassword": "a-password",
}
RESOURCES = {
    "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.20.0.0/20"}},
    "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.20.0.0/24"}},
    "FunctionSecurityGroup": {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {"GroupDescription": "Functions", "VpcId": {"Ref": "Vpc"}},
    },
    "Role": {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [TRUST]}},
    },
    "VoteFunction": function(VpcConfig=INSIDE),
    "InstallFunction": function(),
    "Database": {"Type": "AWS::RDS::DBInstance", "Properties": DATABASE},
}

# By some of them a stack is known to be one of ours.
PARAMETERS = {name: {"Type": "String", "Default": ""} for name in sorted(OF_EVERY_VERSION)}


@dataclass(frozen=True)
class Deployed:
    """The stack as moto has it; `ids` are the physical ids of its resources."""

    arn: str
    ids: dict[str, str]


@pytest.fixture
def aws(empty_account: AwsFront, monkeypatch: pytest.MonkeyPatch) -> AwsFront:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return empty_account


@pytest.fixture
def account(aws: AwsFront) -> AwsAccount:
    return AwsAccount("eu-central-1", None)


@pytest.fixture
def deployed(aws: AwsFront) -> Deployed:
    """Two functions, of which one is in the network with a version and an alias, and a database."""
    cloudformation = aws.client("cloudformation")
    template = json.dumps({"Parameters": PARAMETERS, "Resources": RESOURCES})
    arn = cloudformation.create_stack(StackName=NAME, TemplateBody=template, Capabilities=["CAPABILITY_IAM"])["StackId"]
    found = cloudformation.list_stack_resources(StackName=NAME)["StackResourceSummaries"]
    ids = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}
    vote = aws.client("lambda")
    version = vote.publish_version(FunctionName=ids["VoteFunction"])["Version"]
    vote.create_alias(FunctionName=ids["VoteFunction"], Name="live", FunctionVersion=version)
    aws.client("ec2").create_network_interface(
        SubnetId=ids["Subnet"], Groups=[ids["FunctionSecurityGroup"]], Description="AWS Lambda VPC ENI-vote"
    )
    tags = [{"Key": "aws:cloudformation:stack-name", "Value": NAME}]
    aws.client("secretsmanager").create_secret(Name="CookieSecret-1", SecretString="x", Tags=tags)
    return Deployed(arn, ids)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(aws: AwsFront, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["teardown", "--stack", NAME, "--every", "0.01", *arguments])
        return code, *capsys.readouterr()

    return run


def changes(aws: AwsFront) -> list[str]:
    return [name for name in aws.calls if name.partition(":")[2].startswith(CHANGES)]


def protect(aws: AwsFront, deployed: Deployed) -> None:
    aws.client("rds").modify_db_instance(DBInstanceIdentifier=deployed.ids["Database"], DeletionProtection=True)


def stack_in(deployed: Deployed, status: str, more: str = "", parameters: Iterable[str] = PARAMETERS) -> Answer:
    given = "".join(f"<member><ParameterKey>{name}</ParameterKey></member>" for name in parameters)
    stack = (
        f"<StackName>{NAME}</StackName><StackId>{deployed.arn}</StackId><StackStatus>{status}</StackStatus>"
        f"<CreationTime>2026-01-01T00:00:00Z</CreationTime>"
        f"<Parameters>{given}</Parameters>{more}"
    )
    result = f"<DescribeStacksResult><Stacks><member>{stack}</member></Stacks></DescribeStacksResult>"
    return as_xml(f"<DescribeStacksResponse>{result}</DescribeStacksResponse>")


# ---------------------------------------------------------------- The way down


def test_the_network_goes_first_then_the_protection_then_the_stack(run: Run, aws, deployed: Deployed) -> None:
    protect(aws, deployed)
    code, out, _ = run("--yes", "--delete-data")
    assert code == 0
    path = f"/2015-03-31/functions/{deployed.ids['VoteFunction']}"
    assert changes(aws) == [
        f"lambda:PUT {path}/aliases/live",
        f"lambda:DELETE {path}?Qualifier=1",
        f"lambda:PUT {path}/configuration",
        "ec2:DeleteNetworkInterface",
        "rds:ModifyDBInstance",
        "cloudformation:DeleteStack",
    ]
    looks = [index for index, name in enumerate(aws.calls) if name == "ec2:DescribeNetworkInterfaces"]
    assert looks[-1] == aws.calls.index("rds:ModifyDBInstance") - 1  # not before the last interface is gone
    assert f"The stack {NAME} is gone." in out
    assert "note     secret CookieSecret-1: bills each month" in out


def test_what_will_be_done_is_said_before_anything_is_done(run: Run, aws, deployed, monkeypatch, capsys) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("voting-prod\n"))
    code, out, err = run()
    assert (code, changes(aws)) == (1, [])
    assert "  - take 2 functions out of the network" in out
    assert "Nothing was changed." in err
    monkeypatch.setattr(sys, "stdin", Terminal(f"{NAME}\n"))
    assert run()[0] == 0


def test_without_a_terminal_yes_must_be_said(run: Run, aws: AwsFront, deployed, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{NAME}\n"))
    with pytest.raises(SystemExit) as caught:
        run()
    assert (caught.value.code, changes(aws)) == (2, [])


# ---------------------------------------------------------------- Again, from any point


def test_a_function_that_is_in_no_network_any_more_is_left_alone(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    functions, name = aws.client("lambda"), deployed.ids["VoteFunction"]
    functions.delete_alias(FunctionName=name, Name="live")
    functions.delete_function(FunctionName=name, Qualifier="1")
    functions.update_function_configuration(FunctionName=name, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})
    code, out, _ = run("--yes")
    assert code == 0
    assert f"{name}: is in no network" in out
    assert changes(aws) == ["ec2:DeleteNetworkInterface", "cloudformation:DeleteStack"]


def test_a_function_that_is_gone_is_passed_over(aws: AwsFront, account: AwsAccount, deployed: Deployed) -> None:
    name = deployed.ids["VoteFunction"]
    assert take_out(account, name) is True
    assert take_out(account, name) is False
    aws.client("lambda").delete_function(FunctionName=name)
    assert take_out(account, name) is False


def test_a_version_alone_holds_the_network_too(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    functions, name = aws.client("lambda"), deployed.ids["VoteFunction"]
    functions.update_function_configuration(FunctionName=name, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})
    assert run("--yes")[0] == 0
    path = f"/2015-03-31/functions/{name}"
    assert changes(aws)[:2] == [f"lambda:PUT {path}/aliases/live", f"lambda:DELETE {path}?Qualifier=1"]
    assert f"lambda:PUT {path}/configuration" not in aws.calls


def test_a_stack_that_is_gone_is_reported_on_and_nothing_else(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    assert run("--yes")[0] == 0
    aws.calls.clear()
    code, out, _ = run()
    assert (code, changes(aws)) == (0, [])
    assert f"There is no stack {NAME} in eu-central-1" in out
    assert "secret CookieSecret-1" in out


def test_a_deletion_that_failed_names_the_cause_and_is_tried_again(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    failed = stack_in(deployed, "DELETE_FAILED")
    aws.answer("cloudformation:DescribeStacks", None, failed, failed, None)
    aws.answer("cloudformation:DeleteStack", as_xml("<DeleteStackResponse/>"), None)
    resource = (
        "<LogicalResourceId>Subnet</LogicalResourceId><ResourceType>AWS::EC2::Subnet</ResourceType>"
        "<ResourceStatus>DELETE_FAILED</ResourceStatus><ResourceStatusReason>has dependencies</ResourceStatusReason>"
        "<LastUpdatedTimestamp>2026-01-01T00:00:00Z</LastUpdatedTimestamp>"
    )
    found = f"<StackResourceSummaries><member>{resource}</member></StackResourceSummaries>"
    name = "ListStackResources"
    listed = as_xml(f"<{name}Response><{name}Result>{found}</{name}Result></{name}Response>")
    aws.answer("cloudformation:ListStackResources", None, listed, None)
    code, _, err = run("--yes")
    assert code == 1
    assert "Not done: Subnet: has dependencies" in err
    assert "Run the same command again" in err
    assert run("--yes")[0] == 0
    assert aws.calls.count("cloudformation:DeleteStack") == 2


def test_a_deletion_that_is_under_way_is_watched(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    under_way = stack_in(deployed, "DELETE_IN_PROGRESS")
    aws.answer("cloudformation:DescribeStacks", under_way, under_way, stack_in(deployed, "DELETE_COMPLETE"), None)
    code, out, _ = run("--yes")
    assert (code, changes(aws)) == (0, [])
    assert "watch the deletion" in out


def test_each_resource_that_goes_is_told_once(aws: AwsFront, account: AwsAccount, deployed: Deployed) -> None:
    event = (
        "<member><EventId>{0}</EventId><StackId>s</StackId><StackName>s</StackName><Timestamp>2026-01-01T00:00:00Z"
        "</Timestamp><LogicalResourceId>{0}</LogicalResourceId><ResourceStatus>{1}</ResourceStatus></member>"
    )
    old, vote, role = (
        event.format(name, status)
        for name, status in [("Old", "DELETE_COMPLETE"), ("Vote", "DELETE_COMPLETE"), ("Role", "DELETE_IN_PROGRESS")]
    )
    pages = [old, role + old, vote + role + old, vote + role + old]
    name = "DescribeStackEvents"
    shown = [
        as_xml(f"<{name}Response><{name}Result><StackEvents>{page}</StackEvents></{name}Result></{name}Response>")
        for page in pages
    ]
    aws.answer(f"cloudformation:{name}", *shown)
    under_way = stack_in(deployed, "DELETE_IN_PROGRESS")
    aws.answer("cloudformation:DescribeStacks", *[under_way] * 3, stack_in(deployed, "DELETE_COMPLETE"))
    said: list[str] = []
    stack = find_stack(account, NAME)
    assert stack is not None
    delete(account, stack, said.append, 0.01)
    assert said == ["  0 min  DELETE_COMPLETE Vote"]


# ---------------------------------------------------------------- What speaks against it


def test_a_stack_of_another_project_with_the_same_name_is_left_alone(run: Run, aws: AwsFront) -> None:
    template = json.dumps({"Resources": RESOURCES})
    options = {"TemplateBody": template, "Capabilities": ["CAPABILITY_IAM"]}
    aws.client("cloudformation").create_stack(StackName=NAME, **options)
    code, out, err = run("--yes", "--delete-data")
    assert (code, out, changes(aws)) == (1, "", [])
    assert f"The stack {NAME} of account 123456789012 in eu-central-1 is not one of this project" in err


@pytest.mark.parametrize("status", ["ROLLBACK_FAILED", "DELETE_FAILED", "DELETE_IN_PROGRESS"])
@pytest.mark.parametrize("parameters", [[], ["OptionA", "OptionB"]])
def test_another_projects_stack_is_left_alone_in_any_state(run: Run, aws, deployed, status: str, parameters) -> None:
    aws.answer("cloudformation:DescribeStacks", stack_in(deployed, status, parameters=parameters))
    code, out, _ = run("--yes", "--delete-data")
    assert (code, out, changes(aws)) == (1, "", [])


def test_a_stack_that_was_only_planned_goes_without_any_parameters(run: Run, aws, deployed: Deployed) -> None:
    """A change set of a new stack leaves one."""
    planned = stack_in(deployed, "REVIEW_IN_PROGRESS", parameters=[])
    aws.answer("cloudformation:DescribeStacks", planned, None)
    assert run("--yes")[0] == 0
    assert "cloudformation:DeleteStack" in aws.calls


def test_the_parameters_by_which_a_stack_is_known_are_the_templates() -> None:
    assert defaults().keys() > OF_EVERY_VERSION


def test_a_protected_database_is_deleted_only_where_that_is_asked_for(run: Run, aws, deployed: Deployed) -> None:
    protect(aws, deployed)
    code, _, err = run("--yes")
    assert (code, changes(aws)) == (1, [])
    assert deployed.ids["Database"] in err
    assert "--delete-data" in err


def test_a_stack_with_termination_protection_is_left_alone(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    protected = "<EnableTerminationProtection>true</EnableTerminationProtection>"
    aws.answer("cloudformation:DescribeStacks", stack_in(deployed, "CREATE_COMPLETE", protected))
    code, _, err = run("--yes", "--delete-data")
    assert (code, changes(aws)) == (1, [])
    assert "--no-enable-termination-protection" in err


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"])
def test_a_stack_that_is_worked_on_is_left_alone(run: Run, aws: AwsFront, deployed: Deployed, status: str) -> None:
    aws.answer("cloudformation:DescribeStacks", stack_in(deployed, status))
    code, _, err = run("--yes")
    assert (code, changes(aws)) == (1, [])
    assert f"is in {status}: wait" in err


@pytest.mark.parametrize("page", [b"<!doctype html>\n<title>Down</title>", b"<html><body>Log in</body></html>", b""])
def test_a_page_of_somebody_in_between_does_not_say_that_the_stack_is_gone(run: Run, aws, deployed, page) -> None:
    aws.answer("cloudformation:DescribeStacks", (200, "text/html", page))
    code, out, err = run("--yes")
    assert (code, out, changes(aws)) == (1, "", [])
    assert "Not done: " in err


def throttled(code: str) -> Answer:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>Rate exceeded</Message></Error>"
    return as_xml(f"<ErrorResponse>{error}</ErrorResponse>", 400)


EC2_THROTTLED = as_xml(
    "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>No.</Message></Error></Errors></Response>", 503
)
PAGE = (502, "text/html", b"<html>bad gateway</html>")


@pytest.mark.parametrize("fault", [throttled("Throttling"), PAGE, throttled("ServiceUnavailable")])
def test_a_moment_without_an_answer_does_not_end_the_watch(run: Run, aws: AwsFront, deployed: Deployed, fault) -> None:
    under_way = stack_in(deployed, "DELETE_IN_PROGRESS")
    gone = stack_in(deployed, "DELETE_COMPLETE")
    aws.answer("cloudformation:DescribeStacks", None, under_way, *[fault] * 2, under_way, gone, None)
    code, out, err = run("--yes")
    assert (code, err) == (0, "")
    assert f"The stack {NAME} is gone." in out
    assert aws.calls.count("cloudformation:DeleteStack") == 1


def test_a_moment_without_an_answer_does_not_end_the_wait(aws: AwsFront, account: AwsAccount) -> None:
    aws.answer("ec2:DescribeNetworkInterfaces", in_use(), EC2_THROTTLED, PAGE, in_use(), NONE)
    said: list[str] = []
    wait_for_interfaces(account, "sg-1", said.append, patience_s=3600, every_s=0.01)
    assert said == ["  0 min  1 network interface left"]


def test_aws_that_stays_away_ends_the_wait(aws: AwsFront, account: AwsAccount, monkeypatch) -> None:
    monkeypatch.setattr(silence, "MOST_SILENT_LOOKS", 2)
    aws.answer("ec2:DescribeNetworkInterfaces", in_use(), EC2_THROTTLED)
    with pytest.raises(Unanswered):
        wait_for_interfaces(account, "sg-1", lambda _: None, patience_s=3600, every_s=0.01)


def test_credentials_that_expire_end_the_watch_at_once(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    under_way = stack_in(deployed, "DELETE_IN_PROGRESS")
    aws.answer("cloudformation:DescribeStacks", None, under_way, throttled("ExpiredToken"))
    code, _, err = run("--yes")
    assert code == 1
    assert "Run the same command again" in err
    assert aws.calls.count("cloudformation:DescribeStacks") == 3


def test_a_missing_permission_ends_it_with_its_name(run: Run, aws: AwsFront, deployed: Deployed) -> None:
    aws.deny("ec2:DescribeNetworkInterfaces")
    code, _, err = run("--yes")
    assert code == 1
    assert "ec2:DescribeNetworkInterfaces" in err
    assert "cloudformation:DeleteStack" not in aws.calls


# ---------------------------------------------------------------- Interfaces that stay


def in_use() -> Answer:
    item = "<networkInterfaceId>eni-1</networkInterfaceId><status>in-use</status><description>AWS Lambda VPC ENI-vote"
    item += "</description>"
    found = f"<networkInterfaceSet><item>{item}</item></networkInterfaceSet>"
    return as_xml(f"<DescribeNetworkInterfacesResponse>{found}</DescribeNetworkInterfacesResponse>")


NONE = as_xml("<DescribeNetworkInterfacesResponse><networkInterfaceSet/></DescribeNetworkInterfacesResponse>")


def test_interfaces_in_use_are_waited_for_and_not_touched(aws: AwsFront, account: AwsAccount) -> None:
    aws.answer("ec2:DescribeNetworkInterfaces", in_use(), in_use(), NONE)
    said: list[str] = []
    wait_for_interfaces(account, "sg-1", said.append, patience_s=3600, every_s=0.01)
    assert said == ["  0 min  1 network interface left"]
    assert aws.calls == ["ec2:DescribeNetworkInterfaces"] * 3


def test_patience_ends(aws: AwsFront, account: AwsAccount) -> None:
    aws.answer("ec2:DescribeNetworkInterfaces", in_use())
    with pytest.raises(StillThere, match="1 network interface still there"):
        wait_for_interfaces(account, "sg-1", lambda _: None, patience_s=0, every_s=0.01)


def test_an_interface_of_somebody_else_is_not_deleted(aws: AwsFront, account: AwsAccount, deployed: Deployed) -> None:
    (ours,) = aws.client("ec2").describe_network_interfaces()["NetworkInterfaces"]
    ids = deployed.ids
    other = aws.client("ec2").create_network_interface(
        SubnetId=ids["Subnet"], Groups=[ids["FunctionSecurityGroup"]], Description="a bastion"
    )["NetworkInterface"]["NetworkInterfaceId"]
    with pytest.raises(StillThere):
        wait_for_interfaces(account, ids["FunctionSecurityGroup"], lambda _: None, patience_s=0, every_s=0.01)
    left = [one["NetworkInterfaceId"] for one in aws.client("ec2").describe_network_interfaces()["NetworkInterfaces"]]
    assert left == [other] != [ours["NetworkInterfaceId"]]


@contextmanager
def interruptible(words: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Start a command that heeds Ctrl-C, and kill it if it has not ended."""
    with heeding_interrupts():
        process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_interrupted_it_says_how_to_go_on(aws: AwsFront, deployed: Deployed) -> None:
    aws.answer("ec2:DescribeNetworkInterfaces", in_use())
    words = [sys.executable, "-m", "votectl", "teardown", "--stack", NAME, "--yes", "--every", "0.05"]
    with interruptible(words) as process:
        wait_for(lambda: aws.calls.count("ec2:DescribeNetworkInterfaces") > 2 or None, "a few looks at the interfaces")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command again" in err
    assert "Traceback" not in err
    del aws.answers["ec2:DescribeNetworkInterfaces"]
    done = subprocess.run(words, cwd=ROOT, env=dict(os.environ), check=False, capture_output=True, timeout=60)
    assert done.returncode == 0


# ---------------------------------------------------------------- What is left


def test_all_that_is_left_is_reported_and_nothing_of_other_stacks(run: Run, aws: AwsFront) -> None:
    rds, logs, s3 = aws.client("rds"), aws.client("logs"), aws.client("s3")
    rds.create_db_instance(DBInstanceIdentifier="db", **{**DATABASE, "AllocatedStorage": 20})
    for stack in ("voting-dev", "voting-dev-2"):
        rds.create_db_snapshot(DBInstanceIdentifier="db", DBSnapshotIdentifier=f"{stack}-snapshot-database-1")
        logs.create_log_group(logGroupName=f"/aws/vendedlogs/{stack}/http")
        logs.create_log_group(logGroupName=f"/aws/lambda/{stack}/vote")
        logs.create_log_group(logGroupName=f"/aws/rds/instance/{stack}-database-1/postgresql")
    template = {"Resources": {"B": {"Type": "AWS::S3::Bucket"}}, "Outputs": {"SourceBucket": {"Value": {"Ref": "B"}}}}
    aws.client("cloudformation").create_stack(
        StackName="aws-sam-cli-managed-default", TemplateBody=json.dumps(template)
    )
    (bucket,) = [one["Name"] for one in s3.list_buckets()["Buckets"]]
    for key in ("voting-dev/1", "voting-dev/2", "voting-dev-2/3"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * 1_000_000)
    code, out, _ = run()
    assert code == 0
    for line in (
        "snapshot of the database voting-dev-snapshot-database-1 (20 GiB): bills",
        "log group /aws/vendedlogs/voting-dev/http: bills",
        "log group /aws/lambda/voting-dev/vote: bills",
        "log group of the database /aws/rds/instance/voting-dev-database-1/postgresql: bills",
        f"2 artifacts of SAM in s3://{bucket}/voting-dev/, 2.0 MB: bill",
        "ok       no secret",
    ):
        assert line in out
    assert "voting-dev-2" not in out


def test_what_may_not_be_looked_for_is_a_line(run: Run, aws: AwsFront) -> None:
    denied = ("secretsmanager:ListSecrets", "rds:DescribeDBSnapshots", "elasticache:DescribeSnapshots")
    aws.deny(*denied)
    code, out, _ = run()
    assert code == 0
    for permission in denied:
        assert f"the permission {permission} is missing" in out
    assert "ok       no log group\n" in out
